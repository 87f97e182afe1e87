//! Rows as lines of text.

use super::rows::{Row, Rows};
use crate::cli::output::{Table, human_bytes};

/// What `millstream top` shows at a time.
#[derive(Debug, PartialEq)]
pub(super) struct Frame {
    pub(super) lines: Vec<(String, Style)>,
}

/// How a line stands out on a terminal.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Style {
    Plain,
    Head,
    Waiting,
    Bad,
}

const NOTHING: &str = "-";

impl Frame {
    pub(super) fn new(rows: &Rows) -> Self {
        let mut lines = vec![(rows.node.clone(), Style::Plain)];
        if rows.rows.is_empty() && rows.not_running.is_empty() {
            let remedy = "no pipeline is applied: `millstream apply FILE` does it";
            lines.push((remedy.to_owned(), Style::Plain));
            return Self { lines };
        }
        let mut table = Table::new([
            "STAGE/PLUGIN",
            "STATE",
            "IN/S",
            "OUT/S",
            "BYTES/S",
            "REJECTED",
            "ERRORS",
            "LAG",
            "CPU",
            "MEMORY",
            "P50",
            "P99",
        ]);
        rows.rows.iter().for_each(|row| table.row(cells(row)));
        let styles = std::iter::once(Style::Head).chain(rows.rows.iter().map(style));
        lines.extend(table.lines().into_iter().zip(styles));
        let not_running = rows
            .not_running
            .iter()
            .map(|pipeline| format!("{pipeline}: not running: `millstream status` says why"));
        lines.extend(not_running.map(|line| (line, Style::Bad)));
        Self { lines }
    }

    /// Puts something in place of the first line.
    pub(super) fn say(&mut self, text: &str, style: Style) {
        self.lines[0] = (text.to_owned(), style);
    }
}

fn style(row: &Row) -> Style {
    match row.state.as_deref() {
        Some("failed") => Style::Bad,
        Some("waiting" | "starting" | "stopped") => Style::Waiting,
        _ => Style::Plain,
    }
}

fn cells(row: &Row) -> [String; 12] {
    let some = |text: Option<String>| text.unwrap_or_else(|| NOTHING.to_owned());
    let (name, state) = match (&row.plugin, &row.state) {
        // Its state is that of its stage.
        (Some(plugin), _) => (format!("  {plugin}"), String::new()),
        (None, state) => {
            let place = if row.position == "stream" { String::new() } else { format!(" ({})", row.position) };
            (format!("{}/{}{place}", row.pipeline, row.stage), some(state.clone()))
        }
    };
    let of_stage = |text: Option<String>| if row.plugin.is_some() { String::new() } else { some(text) };
    let of_plugin =
        |us: Option<u64>| if row.plugin.is_some() { some(us.map(duration)) } else { String::new() };
    [
        name,
        state,
        some(row.records_in_per_s.map(rate)),
        some(row.records_out_per_s.map(rate)),
        of_stage(row.bytes_in_per_s.map(|bytes| human_bytes(bytes.round() as u64))),
        of_stage(row.rejected.map(|count| count.to_string())),
        row.errors.to_string(),
        of_stage(row.lag.map(|lag| lag.to_string())),
        some(row.cpu_share.map(|share| {
            let throttled = if row.is_throttled { " throttled" } else { "" };
            format!("{:.1}%{throttled}", share * 100.0)
        })),
        human_bytes(row.memory_bytes),
        of_plugin(row.call_us_p50),
        of_plugin(row.call_us_p99),
    ]
}

fn rate(per_second: f64) -> String {
    if per_second > 0.0 && per_second < 10.0 {
        return format!("{per_second:.1}");
    }
    format!("{per_second:.0}")
}

#[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
fn duration(us: u64) -> String {
    match us {
        0..1_000 => format!("{us} us"),
        1_000..1_000_000 => format!("{:.1} ms", us as f64 / 1e3),
        _ => format!("{:.1} s", us as f64 / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> Rows {
        let stage = Row {
            pipeline: "access-log".into(),
            stage: "parse".into(),
            position: "stream".into(),
            state: Some("running".into()),
            records_in_per_s: Some(1234.5),
            records_out_per_s: Some(0.25),
            bytes_in_per_s: Some(15_000.0),
            rejected: Some(3),
            lag: Some(10),
            cpu_share: Some(0.1234),
            memory_bytes: 1_100_000,
            ..Row::default()
        };
        let plugin = Row {
            plugin: Some("parser@v1".into()),
            errors: 2,
            cpu_share: Some(0.2),
            is_throttled: true,
            memory_bytes: 1_100_000,
            call_us_p50: Some(950),
            call_us_p99: Some(12_345),
            ..Row::default()
        };
        let ingest = Row {
            pipeline: "guard".into(),
            stage: "check".into(),
            position: "ingest".into(),
            state: Some("failed".into()),
            rejected: Some(0),
            ..Row::default()
        };
        Rows {
            node: "node 1".into(),
            seconds: Some(1.0),
            rows: vec![stage, plugin, ingest],
            not_running: vec!["late".into()],
        }
    }

    #[test]
    fn a_frame_is_a_table_of_stages_and_their_plugins() {
        let frame = Frame::new(&rows());
        let text: Vec<&str> = frame.lines.iter().map(|(line, _)| line.as_str()).collect();
        let expected = [
            "node 1",
            "STAGE/PLUGIN          STATE    IN/S  OUT/S  BYTES/S  REJECTED  ERRORS  LAG  CPU              MEMORY  P50     P99",
            "access-log/parse      running  1234  0.2    15.0 kB  3         0       10   12.3%            1.1 MB",
            "  parser@v1                    -     -                         2            20.0% throttled  1.1 MB  950 us  12.3 ms",
            "guard/check (ingest)  failed   -     -      -        0         0       -    -                0 B",
            "late: not running: `millstream status` says why",
        ];
        assert_eq!(text, expected);
        let styles: Vec<Style> = frame.lines.iter().map(|(_, style)| *style).collect();
        assert_eq!(styles, [Style::Plain, Style::Head, Style::Plain, Style::Plain, Style::Bad, Style::Bad]);
    }

    #[test]
    fn a_node_without_pipelines_says_what_to_do() {
        let mut frame = Frame::new(&Rows { rows: Vec::new(), not_running: Vec::new(), ..rows() });
        assert!(frame.lines[1].0.contains("millstream apply"), "{frame:?}");
        frame.say("gone", Style::Bad);
        assert_eq!((frame.lines[0].clone(), frame.lines.len()), (("gone".to_owned(), Style::Bad), 2));
    }
}
