//! What a component says of itself, read before anything is compiled: what it imports and exports, and how large its
//! functions are. Reading takes time in proportion to the file, and hardly any memory.

use wasmparser::{Parser, Payload};

/// Compiling takes memory and time that grow faster than a function does. The largest ones that are known, main loops of
/// interpreters, have a few hundred kilobytes.
const FUNCTION_BYTES_MAX: usize = 1024 * 1024;

/// Why a component was not even compiled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OutlineError {
    #[error("the component is damaged: {message}")]
    Damaged { message: String },
    #[error(
        "the component has a function of {bytes} bytes, more than the {FUNCTION_BYTES_MAX} that one may have"
    )]
    FunctionTooLarge { bytes: usize },
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
    for payload in Parser::new(0).parse_all(wasm) {
        match payload.map_err(damaged)? {
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::CodeSectionEntry(body) if body.range().len() > FUNCTION_BYTES_MAX => {
                return Err(OutlineError::FunctionTooLarge { bytes: body.range().len() });
            }
            Payload::ComponentImportSection(imports) if depth == 0 => {
                for import in imports {
                    outline.imports.push(import.map_err(damaged)?.name.name);
                }
            }
            Payload::ComponentExportSection(exports) if depth == 0 => {
                for export in exports {
                    outline.exports.push(export.map_err(damaged)?.name.name);
                }
            }
            Payload::ImportSection(imports) if depth == 0 => {
                for import in imports.into_imports() {
                    let import = import.map_err(damaged)?;
                    outline.core_imports.push((import.module, import.name));
                }
            }
            Payload::ExportSection(exports) if depth == 0 => {
                for export in exports {
                    outline.exports.push(export.map_err(damaged)?.name);
                }
            }
            _ => {}
        }
    }
    Ok(outline)
}
