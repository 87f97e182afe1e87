//! Lines of a file or of stdin, in pieces, from a thread of their own.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use crate::cli::failure::Failure;

/// Bytes read at once.
const READ_BYTES: usize = 256 * 1024;
/// Pieces that wait to be sent; the reader pauses beyond that.
const CHUNKS_WAITING_MAX: usize = 4;
/// The longest line; a record can't be larger than a request, whose limit is lower on any broker.
const LINE_BYTES_MAX: usize = 256 * 1024 * 1024;

/// Whole lines, one after another.
pub(super) struct Chunk {
    bytes: Vec<u8>,
    key_separator: Option<Vec<u8>>,
}

/// One line, without its end.
#[derive(Debug, PartialEq)]
pub(super) struct Line<'a> {
    pub(super) key: Option<&'a [u8]>,
    pub(super) value: &'a [u8],
}

impl Line<'_> {
    pub(super) fn bytes(&self) -> usize {
        self.key.map_or(0, <[u8]>::len) + self.value.len()
    }
}

impl Chunk {
    pub(super) fn lines(&self) -> impl Iterator<Item = Line<'_>> {
        let mut rest = self.bytes.as_slice();
        std::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            let (line, after) = match rest.iter().position(|&byte| byte == b'\n') {
                Some(end) => (&rest[..end], &rest[end + 1..]),
                None => (rest, &rest[rest.len()..]),
            };
            rest = after;
            Some(self.split(line.strip_suffix(b"\r").unwrap_or(line)))
        })
    }

    fn split<'a>(&self, line: &'a [u8]) -> Line<'a> {
        let Some(separator) = &self.key_separator else { return Line { key: None, value: line } };
        match line.windows(separator.len()).position(|window| window == separator) {
            Some(at) => Line { key: Some(&line[..at]), value: &line[at + separator.len()..] },
            None => Line { key: None, value: line },
        }
    }
}

pub(super) struct LineSource {
    chunks: Receiver<Result<Chunk, Failure>>,
}

impl LineSource {
    pub(super) fn open(file: Option<&Path>, key_separator: Option<&str>) -> Result<Self, Failure> {
        if key_separator == Some("") {
            return Err(Failure::Usage("--key-separator must not be empty".to_owned()));
        }
        let separator = key_separator.map(|text| text.as_bytes().to_vec());
        let (name, source): (PathBuf, Box<dyn Read + Send>) = match file {
            None => ("stdin".into(), Box::new(io::stdin())),
            Some(path) => match File::open(path) {
                Ok(file) => (path.into(), Box::new(file)),
                Err(source) => return Err(Failure::Input { path: path.into(), source }),
            },
        };
        Ok(Self::read_from(source, name, separator))
    }

    fn read_from(mut source: Box<dyn Read + Send>, path: PathBuf, key_separator: Option<Vec<u8>>) -> Self {
        let (sender, chunks) = mpsc::sync_channel(CHUNKS_WAITING_MAX);
        // Not joined: a read from a terminal ends only with the process.
        thread::spawn(move || {
            let outcome = read_chunks(&mut *source, |bytes| {
                let chunk = Chunk { bytes, key_separator: key_separator.clone() };
                sender.send(Ok(chunk)).is_ok()
            });
            if let Err(source) = outcome {
                // Nobody listens any more where this fails, so nobody wants to know.
                let _ = sender.send(Err(Failure::Input { path, source }));
            }
        });
        Self { chunks }
    }

    /// The next piece, as soon as there is one.
    pub(super) fn next_chunk(&self, timeout: Duration) -> Result<Result<Chunk, Failure>, RecvTimeoutError> {
        self.chunks.recv_timeout(timeout)
    }
}

/// Calls `deliver` with whole lines until the source ends or `deliver` returns false.
fn read_chunks(source: &mut dyn Read, mut deliver: impl FnMut(Vec<u8>) -> bool) -> io::Result<()> {
    // The beginning of a line whose end has not been read yet.
    let mut partial = Vec::new();
    loop {
        let mut bytes = std::mem::take(&mut partial);
        let kept = bytes.len();
        if kept > LINE_BYTES_MAX {
            return Err(io::Error::other(format!("a line is longer than {LINE_BYTES_MAX} bytes")));
        }
        bytes.resize(kept + READ_BYTES.max(kept), 0);
        let read = match source.read(&mut bytes[kept..]) {
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                bytes.truncate(kept);
                partial = bytes;
                continue;
            }
            Err(error) => return Err(error),
        };
        bytes.truncate(kept + read);
        if read == 0 {
            if !bytes.is_empty() {
                deliver(bytes);
            }
            return Ok(());
        }
        match bytes[kept..].iter().rposition(|&byte| byte == b'\n') {
            None => partial = bytes,
            Some(end) => {
                partial = bytes.split_off(kept + end + 1);
                if !deliver(bytes) {
                    return Ok(());
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Read};

    use super::{Chunk, Line, read_chunks};

    /// Gives its bytes in reads of at most `step`.
    struct Trickle<'a> {
        rest: &'a [u8],
        step: usize,
    }

    impl Read for Trickle<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let length = self.step.min(self.rest.len()).min(buffer.len());
            let (now, later) = self.rest.split_at(length);
            buffer[..length].copy_from_slice(now);
            self.rest = later;
            Ok(length)
        }
    }

    fn lines_read(text: &[u8], step: usize, separator: Option<&str>) -> Vec<(Option<Vec<u8>>, Vec<u8>)> {
        let mut lines = Vec::new();
        read_chunks(&mut Trickle { rest: text, step }, |bytes| {
            let chunk = Chunk { bytes, key_separator: separator.map(|text| text.as_bytes().to_vec()) };
            lines.extend(chunk.lines().map(|line| (line.key.map(<[u8]>::to_vec), line.value.to_vec())));
            true
        })
        .unwrap();
        lines
    }

    #[test]
    fn lines_do_not_depend_on_how_they_arrive() {
        let text = b"one\ntwo\r\n\nlast without end";
        let expected: Vec<_> =
            [&b"one"[..], b"two", b"", b"last without end"].map(|value| (None, value.to_vec())).into();
        for step in 1..=text.len() {
            assert_eq!(lines_read(text, step, None), expected, "in reads of {step}");
        }
    }

    #[test]
    fn the_first_separator_splits_key_from_value() {
        let chunk = Chunk { bytes: b"a::b::c\nplain\n::x\n".to_vec(), key_separator: Some(b"::".to_vec()) };
        let lines: Vec<_> = chunk.lines().collect();
        let line = |key, value| Line { key, value };
        assert_eq!(lines, [line(Some(&b"a"[..]), &b"b::c"[..]), line(None, b"plain"), line(Some(b""), b"x")]);
    }

    #[test]
    fn reading_ends_where_nobody_takes_the_lines() {
        let mut taken = 0;
        read_chunks(&mut io::repeat(b'\n'), |_| {
            taken += 1;
            taken < 3
        })
        .unwrap();
        assert_eq!(taken, 3);
    }
}
