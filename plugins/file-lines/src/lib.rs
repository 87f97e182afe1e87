//! Produces the lines of a file that the pipeline grants, goes on where it was, and follows the file as it grows.

use std::time::Duration;

use millstream_sdk::prelude::*;
use millstream_sdk::run;
use serde::Deserialize;

/// Bytes of one read: a line may be so long.
const READ_BYTES: u32 = 256 * 1024;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    /// The file's name among the grants.
    file: String,
    /// Lines at its beginning that are no data.
    #[serde(default)]
    skip_lines: u64,
    /// Whether to wait for more at its end.
    #[serde(default)]
    follow: bool,
}

#[source]
fn file_lines(source: &mut Source, config: &Config) -> Result<()> {
    let (mut offset, mut line) = match source.load_position()? {
        Some(position) => parse(&position)?,
        None => (0, 0),
    };
    loop {
        let bytes = run::read_file(&config.file, offset, READ_BYTES)?;
        let Some(end) = bytes.iter().rposition(|&byte| byte == b'\n') else {
            if bytes.len() as u64 == u64::from(READ_BYTES) {
                return Err(Error::stop(format!("line {line} has more than {READ_BYTES} bytes")));
            }
            if !config.follow {
                // Whoever wrote the file did not end its last line.
                if !bytes.is_empty() && line >= config.skip_lines {
                    source.send(Outgoing::new(bytes.clone()).header("line", line.to_string()))?;
                    source.save_position(format!("{} {}", offset + bytes.len() as u64, line + 1))?;
                }
                return Ok(());
            }
            source.sleep(Duration::from_millis(200))?;
            continue;
        };
        for text in bytes[..end].split(|&byte| byte == b'\n') {
            if line >= config.skip_lines {
                let text = text.strip_suffix(b"\r").unwrap_or(text);
                source.send(Outgoing::new(text).header("line", line.to_string()))?;
            }
            line += 1;
        }
        offset += end as u64 + 1;
        source.save_position(format!("{offset} {line}"))?;
    }
}

/// The next byte and the number of its line.
fn parse(position: &[u8]) -> Result<(u64, u64)> {
    let text = std::str::from_utf8(position).ok().and_then(|text| text.split_once(' '));
    let parsed = text.and_then(|(offset, line)| Some((offset.parse().ok()?, line.parse().ok()?)));
    parsed.ok_or_else(|| Error::stop("the saved position is none of this plugin's"))
}

#[cfg(test)]
mod tests {
    use millstream_sdk::testing::{RunDone, RunTest};

    use super::*;

    fn config(skip_lines: u64, follow: bool) -> Config {
        Config { file: "f".to_owned(), skip_lines, follow }
    }

    fn lines(done: &RunDone) -> Vec<&[u8]> {
        done.written.iter().map(Outgoing::value).collect()
    }

    #[test]
    fn whole_lines_are_sent_and_the_place_is_kept() {
        let test = RunTest::new().file("f", "head\na\r\nb\npart");
        let done = test.sleeps(1).source(|source| file_lines(source, &config(1, true)));
        assert_eq!((&done.result, lines(&done)), (&Ok(()), vec![&b"a"[..], b"b"]));
        let position = done.position.unwrap();
        assert_eq!(position, b"10 3");
        let test = RunTest::new().file("f", "head\na\r\nb\npart c\nd").position(position);
        let done = test.source(|source| file_lines(source, &config(1, false)));
        assert_eq!((&done.result, lines(&done)), (&Ok(()), vec![&b"part c"[..], b"d"]));
    }

    #[test]
    fn a_foreign_position_is_no_place() {
        let test = RunTest::new().file("f", "a\n").position("here");
        let done = test.source(|source| file_lines(source, &config(0, false)));
        assert!(matches!(done.result, Err(Error::Stop(_))), "{:?}", done.result);
    }
}
