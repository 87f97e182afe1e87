//! What the bytes are that someone calls a plugin: decided from the first few, before anything parses the rest.

use crate::limits::COMPONENT_BYTES_MAX;

const WASM_MAGIC: [u8; 4] = *b"\0asm";
const COMPONENT_VERSION: [u8; 4] = [0x0d, 0, 1, 0];
const CORE_VERSION: [u8; 4] = [1, 0, 0, 0];

/// Why bytes cannot be a plugin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ArtifactError {
    #[error("the file is empty")]
    Empty,
    #[error("the file has {size} bytes, more than the {COMPONENT_BYTES_MAX} that a plugin may have")]
    TooLarge { size: usize },
    #[error(
        "this is a core WebAssembly module, not a component, and not one of Redpanda's data transforms either: build it for wasm32-wasip2, or wrap it with `wasm-tools component new`"
    )]
    CoreModule,
    #[error("this is a WebAssembly component of an unknown version ({version:02x?})")]
    UnknownVersion { version: [u8; 4] },
    #[error("this is {what}, not a WebAssembly component")]
    NotWasm { what: &'static str },
}

/// What the file is, as far as compiling it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Artifact {
    Component,
    CoreModule,
}

pub(super) fn check(bytes: &[u8]) -> Result<Artifact, ArtifactError> {
    if bytes.len() > COMPONENT_BYTES_MAX {
        return Err(ArtifactError::TooLarge { size: bytes.len() });
    }
    let Some((magic, rest)) = bytes.split_first_chunk::<4>() else {
        let empty = bytes.is_empty();
        return Err(if empty {
            ArtifactError::Empty
        } else {
            ArtifactError::NotWasm { what: describe(bytes) }
        });
    };
    if *magic != WASM_MAGIC {
        return Err(ArtifactError::NotWasm { what: describe(bytes) });
    }
    match rest.first_chunk::<4>() {
        Some(&COMPONENT_VERSION) => Ok(Artifact::Component),
        Some(&CORE_VERSION) => Ok(Artifact::CoreModule),
        Some(&version) => Err(ArtifactError::UnknownVersion { version }),
        None => Err(ArtifactError::NotWasm { what: "a WebAssembly file that is cut short" }),
    }
}

fn describe(bytes: &[u8]) -> &'static str {
    match bytes {
        [0x7f, b'E', b'L', b'F', ..] => "a native ELF binary",
        [0x1f, 0x8b, ..] => "a gzip archive",
        [b'P', b'K', 3, 4, ..] => "a zip archive",
        [0xcf, 0xfa, 0xed, 0xfe, ..] => "a native Mach-O binary",
        [b'M', b'Z', ..] => "a native Windows binary",
        _ => match text(bytes).map(str::trim_start) {
            Some(text) if text.starts_with("(module") => "WebAssembly in text form",
            Some(text) if text.starts_with("(component") => "WebAssembly in text form",
            Some(text) if text.starts_with('<') => "an HTML or XML text",
            Some(_) => "a text",
            None => "a binary file of an unknown kind",
        },
    }
}

/// The beginning, if it is text.
fn text(bytes: &[u8]) -> Option<&str> {
    const SNIFFED_BYTES: usize = 1024;
    let head = &bytes[..bytes.len().min(SNIFFED_BYTES)];
    let text = match std::str::from_utf8(head) {
        Ok(text) => text,
        // A cut through a character is no reason to call a text binary.
        Err(error) if error.error_len().is_none() => {
            std::str::from_utf8(&head[..error.valid_up_to()]).ok()?
        }
        Err(_) => return None,
    };
    (!text.contains('\0')).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_error(bytes: &[u8], expect: &str) {
        let error = check(bytes).expect_err("these bytes are no component");
        assert!(error.to_string().contains(expect), "{error}");
    }

    #[test]
    fn each_wrong_file_is_called_by_its_name() {
        check_error(b"", "empty");
        check_error(b"\0asm\x02\0\0\0", "unknown version");
        check_error(b"\0asm\x0d", "cut short");
        check_error(b"(component)", "text form");
        check_error(b"#!/bin/sh\necho", "a text");
        check_error("h\u{e9}".as_bytes(), "a text");
        check_error(b"\x7fELF\x02\x01", "ELF");
        check_error(b"\x1f\x8b\x08\x00", "gzip");
        check_error(&[0xff; 64], "unknown kind");
        check_error(&vec![0; COMPONENT_BYTES_MAX + 1], "more than");
    }
}
