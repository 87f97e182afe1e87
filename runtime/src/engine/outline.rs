//! What a component or a module says of itself, read before anything is compiled: what it imports and exports, and how large its
//! functions are. Reading takes time in proportion to the file, and hardly any memory.

use wasmparser::{Parser, Payload, WasmFeatures};

/// Compiling takes memory and time that grow faster than a function does. The largest ones that are known, main loops of
/// interpreters, have a few hundred kilobytes.
const FUNCTION_BYTES_MAX: usize = 1024 * 1024;
/// Each takes a multiple of the bytes that it has in the file. Plugins have tens of them.
const IMPORTS_MAX: usize = 10_000;
const EXPORTS_MAX: usize = 10_000;

/// Why a plugin was not even compiled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OutlineError {
    #[error("the plugin is damaged: {message}")]
    Damaged { message: String },
    #[error(
        "the plugin has a function of {bytes} bytes, more than the {FUNCTION_BYTES_MAX} that one may have"
    )]
    FunctionTooLarge { bytes: usize },
    #[error("the plugin has more than the {max} {what} that one may have")]
    TooMany { what: &'static str, max: usize },
}

/// The names at the border of a component, or of a core module.
#[derive(Debug, Default)]
pub(super) struct Outline<'a> {
    pub(super) imports: Vec<&'a str>,
    /// A core module's: from which module, and what.
    pub(super) core_imports: Vec<(&'a str, &'a str)>,
    pub(super) exports: Vec<&'a str>,
}

pub(super) fn read(wasm: &[u8]) -> Result<Outline<'_>, OutlineError> {
    let damaged =
        |error: wasmparser::BinaryReaderError| OutlineError::Damaged { message: error.message().to_owned() };
    let mut outline = Outline::default();
    // Modules and components inside have borders of their own.
    let mut depth = 0_usize;
    for payload in parser().parse_all(wasm) {
        match payload.map_err(damaged)? {
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::CodeSectionEntry(body) if body.range().len() > FUNCTION_BYTES_MAX => {
                return Err(OutlineError::FunctionTooLarge { bytes: body.range().len() });
            }
            Payload::ComponentImportSection(imports) if depth == 0 => {
                for import in imports {
                    add_import(&mut outline.imports, import.map_err(damaged)?.name.name)?;
                }
            }
            Payload::ComponentExportSection(exports) if depth == 0 => {
                for export in exports {
                    add_export(&mut outline.exports, export.map_err(damaged)?.name.name)?;
                }
            }
            Payload::ImportSection(imports) if depth == 0 => {
                for import in imports.into_imports() {
                    let import = import.map_err(damaged)?;
                    add_import(&mut outline.core_imports, (import.module, import.name))?;
                }
            }
            Payload::ExportSection(exports) if depth == 0 => {
                for export in exports {
                    add_export(&mut outline.exports, export.map_err(damaged)?.name)?;
                }
            }
            _ => {}
        }
    }
    Ok(outline)
}

/// With compact imports, which the engine does not know either, an import can be a single byte.
fn parser() -> Parser {
    let mut parser = Parser::new(0);
    parser.set_features(WasmFeatures::all().difference(WasmFeatures::COMPACT_IMPORTS));
    parser
}

fn add_import<T>(imports: &mut Vec<T>, import: T) -> Result<(), OutlineError> {
    add(imports, import, "imports", IMPORTS_MAX)
}

fn add_export<T>(exports: &mut Vec<T>, export: T) -> Result<(), OutlineError> {
    add(exports, export, "exports", EXPORTS_MAX)
}

fn add<T>(names: &mut Vec<T>, name: T, what: &'static str, max: usize) -> Result<(), OutlineError> {
    if names.len() >= max {
        return Err(OutlineError::TooMany { what, max });
    }
    names.push(name);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const CORE: &[u8] = b"\0asm\x01\0\0\0";
    const COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";
    const IMPORT_SECTION: u8 = 2;
    const EXPORT_SECTION: u8 = 7;
    const COMPONENT_IMPORT_SECTION: u8 = 10;
    const COMPONENT_EXPORT_SECTION: u8 = 11;

    fn leb(mut number: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        while number > 0x7f {
            bytes.push(number as u8 | 0x80);
            number >>= 7;
        }
        bytes.push(number as u8);
        bytes
    }

    /// A file of one section, with that many items that are all the same.
    fn file(header: &[u8], section: u8, count: usize, item: &[u8]) -> Vec<u8> {
        let body = [leb(count), item.repeat(count)].concat();
        [header, &[section], &leb(body.len()), &body].concat()
    }

    fn check_many(header: &[u8], section: u8, item: &[u8], what: &'static str) {
        assert!(read(&file(header, section, 10_000, item)).is_ok(), "{what}");
        let error = read(&file(header, section, 10_001, item)).err();
        assert_eq!(error, Some(OutlineError::TooMany { what, max: 10_000 }));
    }

    /// Symptom: a file of 32 MiB made the node take 1 GiB. Cause: its names were collected, however many there were.
    #[test]
    fn names_are_counted_before_they_are_kept() {
        check_many(CORE, IMPORT_SECTION, &[0, 0, 0, 0], "imports");
        check_many(CORE, EXPORT_SECTION, &[0, 0, 0], "exports");
        // A function of type 0, by the name of "a".
        check_many(COMPONENT, COMPONENT_IMPORT_SECTION, &[0, 1, b'a', 1, 0], "imports");
        check_many(COMPONENT, COMPONENT_EXPORT_SECTION, &[0, 1, b'a', 1, 0, 0], "exports");
    }

    #[test]
    fn compact_imports_are_not_read() {
        // Of the module "", a group of functions of type 0 whose names are all empty.
        let names = 1_000_000;
        let group = [&[0, 0, 0x7e, 0, 0][..], &leb(names), &vec![0; names]].concat();
        let error = read(&file(CORE, IMPORT_SECTION, 1, &group)).err();
        let Some(OutlineError::Damaged { message }) = error else { panic!("{error:?}") };
        assert!(message.contains("compact imports"), "{message}");
    }
}
