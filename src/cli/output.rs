//! Everything the command line prints: the only code that writes to stdout and stderr.
//!
//! Answers go to stdout, for people or as JSON; complaints go to stderr, one line each. A reader that goes away
//! (`millstream consume | head`) ends the command without a complaint.

use std::fmt::Display;
use std::io::{self, BufWriter, Write};

use millstream_runtime::printable::printable;
use serde::Serialize;

use super::failure::Failure;

/// Bytes gathered before a write: consuming prints millions of lines.
const BUFFER_BYTES: usize = 64 * 1024;

/// Where a command's answers go.
pub(crate) struct Output {
    json: bool,
    writer: BufWriter<Box<dyn Write>>,
}

impl Output {
    pub(crate) fn to_stdout(json: bool) -> Self {
        Self::to(json, Box::new(io::stdout()))
    }

    fn to(json: bool, writer: Box<dyn Write>) -> Self {
        Self { json, writer: BufWriter::with_capacity(BUFFER_BYTES, writer) }
    }

    /// Whether a script reads this.
    pub(crate) fn json(&self) -> bool {
        self.json
    }

    pub(crate) fn line(&mut self, line: impl Display) -> Result<(), Failure> {
        written(writeln!(self.writer, "{line}"))
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        written(self.writer.write_all(bytes))
    }

    /// One JSON document, on a line of its own.
    pub(crate) fn document(&mut self, document: &impl Serialize) -> Result<(), Failure> {
        written(serde_json::to_writer(&mut self.writer, document).map_err(io::Error::from))?;
        self.bytes(b"\n")
    }

    /// Columns as wide as their widest cell.
    pub(crate) fn table(&mut self, table: &Table) -> Result<(), Failure> {
        table.lines().iter().try_for_each(|line| self.line(line))
    }

    pub(crate) fn flush(&mut self) -> Result<(), Failure> {
        written(self.writer.flush())
    }
}

/// Of a line on stderr.
const LINE_BYTES_MAX: usize = 64 * 1024;

/// Rows under a header.
pub(crate) struct Table {
    header: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new<const N: usize>(header: [&str; N]) -> Self {
        Self { header: header.iter().map(|&name| name.to_owned()).collect(), rows: Vec::new() }
    }

    pub(crate) fn row<const N: usize>(&mut self, cells: [String; N]) {
        assert_eq!(cells.len(), self.header.len(), "a row has a cell for each column");
        self.rows.push(cells.into());
    }

    /// The header and the rows.
    pub(crate) fn lines(&self) -> Vec<String> {
        let columns = self.header.len();
        let mut widths = vec![0; columns];
        let rows = || std::iter::once(&self.header).chain(&self.rows);
        for row in rows() {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let line = |row: &Vec<String>| {
            let mut line = String::new();
            for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
                if column + 1 == columns {
                    line.push_str(cell);
                } else {
                    line.push_str(&format!("{cell:<width$}  "));
                }
            }
            line.trim_end().to_owned()
        };
        rows().map(line).collect()
    }
}

/// Says on stderr why the command failed.
pub(crate) fn complain(failure: &Failure) {
    // With stderr gone there is nobody to tell; the exit code still says it.
    let _ = writeln!(io::stderr(), "error: {}", safe(failure));
}

/// Says something on stderr that is not the answer itself.
pub(crate) fn remark(remark: impl Display) {
    let _ = writeln!(io::stderr(), "{}", safe(remark));
}

/// Lines may quote what a peer or a record says, which must not reach the terminal as it is.
fn safe(text: impl Display) -> String {
    let text = text.to_string();
    let lines: Vec<String> = text.split('\n').map(|line| printable(line, LINE_BYTES_MAX)).collect();
    lines.join("\n")
}

fn written(result: io::Result<()>) -> Result<(), Failure> {
    result.map_err(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => Failure::ReaderGone,
        _ => Failure::Output(error),
    })
}

/// Bytes as a person reads them.
#[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
pub(crate) fn human_bytes(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["kB", "MB", "GB", "TB"];
    if bytes < 1000 {
        return format!("{bytes} B");
    }
    let mut amount = bytes as f64 / 1000.0;
    let mut unit = 0;
    while amount >= 1000.0 && unit + 1 < UNITS.len() {
        amount /= 1000.0;
        unit += 1;
    }
    format!("{amount:.1} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::io::{self, Write};
    use std::rc::Rc;

    use super::{Output, Table, human_bytes, safe};
    use crate::cli::failure::Failure;

    #[derive(Clone, Default)]
    struct Shared(Rc<RefCell<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.borrow_mut().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    struct Closed;

    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_table_is_aligned_and_has_no_trailing_blanks() {
        let shared = Shared::default();
        let mut output = Output::to(false, Box::new(shared.clone()));
        let mut table = Table::new(["TOPIC", "PARTITIONS", "NOTE"]);
        table.row(["access-log".into(), "6".into(), String::new()]);
        table.row(["ä".into(), "12".into(), "x".into()]);
        output.table(&table).unwrap();
        output.flush().unwrap();
        assert_eq!(
            String::from_utf8(shared.0.take()).unwrap(),
            "TOPIC       PARTITIONS  NOTE\naccess-log  6\nä           12          x\n"
        );
    }

    #[test]
    fn a_reader_that_went_away_is_not_an_error_to_report() {
        let mut output = Output::to(false, Box::new(Closed));
        output.line("hello").unwrap();
        assert!(matches!(output.flush(), Err(Failure::ReaderGone)));
    }

    #[test]
    fn what_is_quoted_in_remarks_stays_text() {
        let problems = Failure::Problems(vec!["a".to_owned(), "b \x1b[2J\r".to_owned()]);
        assert_eq!(safe(problems), "a\nerror: b \u{fffd}[2J\u{fffd}");
    }

    #[test]
    fn bytes_are_shown_in_decimal_units() {
        assert_eq!(human_bytes(999), "999 B");
        assert_eq!(human_bytes(1_000), "1.0 kB");
        assert_eq!(human_bytes(1_500_000_000), "1.5 GB");
        assert_eq!(human_bytes(u64::MAX), "18446744.1 TB");
    }
}
