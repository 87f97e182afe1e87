//! The example with all roles and all places, on a catalogue of earthquakes, held against a plain computation.

use super::runners::{FILE_LINES, read_pairs};
use super::*;

/// The public catalogue where it is at hand, and the example's sample of it otherwise.
fn catalogue_dir() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let public = root.join("../shared/data");
    if public.join("earthquakes.csv").exists() { public } else { root.join("examples/earthquakes") }
}

/// The example, with the plugins of this build.
fn pipeline() -> (TempDir, PathBuf) {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/earthquakes/pipeline.yaml");
    let text = fs::read_to_string(example).expect("the example is there");
    let built = "../../target/guests/wasm32-wasip2/guest";
    assert_eq!(text.matches(built).count(), 5, "{text}");
    let guests = Path::new(FILE_LINES).parent().expect("it is in a directory");
    pipeline_file(&text.replace(built, &super::text(guests)))
}

/// What the example shows of a line, by nothing but the positions of its fields.
#[derive(Debug, Clone, PartialEq, PartialOrd)]
struct Quake {
    id: String,
    time: String,
    latitude: f64,
    depth: f64,
    magnitude: f64,
    kind: String,
}

impl Quake {
    fn of_line(line: &str) -> Self {
        let fields: Vec<&str> = line.split(',').collect();
        let number = |at: usize| fields[at].parse().expect("a number");
        let text = |at: usize| fields[at].to_owned();
        let (latitude, depth, magnitude) = (number(1), number(3), number(4));
        Self { id: text(11), time: text(0), latitude, depth, magnitude, kind: text(5) }
    }

    fn of_record((key, value): &(String, String)) -> Self {
        let value: Value = serde_json::from_str(value).expect("JSON");
        let number = |name: &str| value[name].as_f64().expect("a number");
        let text = |name: &str| value[name].as_str().expect("a text").to_owned();
        assert_eq!(*key, text("EventID"));
        Self {
            id: key.clone(),
            time: text("DateTime"),
            latitude: number("Latitude"),
            depth: number("Depth"),
            magnitude: number("Magnitude"),
            kind: text("MagType"),
        }
    }
}

fn sorted(mut quakes: Vec<Quake>) -> Vec<Quake> {
    quakes.sort_by(|a, b| a.partial_cmp(b).expect("no number is none"));
    quakes
}

#[test]
fn the_earthquakes_are_where_a_plain_computation_has_them() {
    let dir = catalogue_dir();
    let catalogue = fs::read_to_string(dir.join("earthquakes.csv")).expect("it can be read");
    let lines: Vec<&str> = catalogue.lines().skip(1).collect();
    let node = Node::start_with(Settings::default().with("plugin.files.dirs", &text(&dir)));
    let (_dir, file) = pipeline();
    succeed(&apply(&node, &file));
    let topics = ["quakes.small", "quakes.light", "quakes.strong"];
    let all = || topics.iter().map(|topic| stored(&node, topic)).sum::<usize>();
    assert!(until(|| all() == lines.len()), "{:#}\n{}", status(&node), node.stderr());

    let quakes: Vec<Quake> = lines.iter().map(|line| Quake::of_line(line)).collect();
    let of = |range: std::ops::Range<f64>| {
        sorted(quakes.iter().filter(|quake| range.contains(&quake.magnitude)).cloned().collect())
    };
    let expected = [of(f64::MIN..3.0), of(3.0..5.0), of(5.0..f64::MAX)];
    for (topic, expected) in topics.iter().zip(&expected) {
        let found = sorted(read_pairs(&node, topic).iter().map(Quake::of_record).collect());
        assert!(!expected.is_empty() && found == *expected, "{topic}: {} of {}", found.len(), expected.len());
    }
    assert_eq!(stored(&node, "quakes.rejected"), 0);

    // Readers of the view see the strong ones, in their order, and not all of them.
    let strong = read_pairs(&node, "quakes.strong");
    let public = read(&node, "quakes.strong.public");
    assert_eq!(public.len(), strong.len());
    for (shown, record) in public.iter().zip(&strong) {
        let (shown, quake) = (serde_json::from_str::<Value>(shown).expect("JSON"), Quake::of_record(record));
        let seen = (&shown["DateTime"], shown["Magnitude"].as_f64(), shown["Latitude"].as_i64());
        let rounded = quake.latitude.round() as i64;
        assert_eq!(seen, (&json!(quake.time), Some(quake.magnitude), Some(rounded)), "{shown}");
        assert_eq!(
            (&shown["Source"], shown.get("EventID"), shown.get("NbStations")),
            (&json!("***"), None, None)
        );
    }

    // What is counted are all lines, once.
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    for quake in &quakes {
        *counts.entry(quake.kind.clone()).or_default() += 1;
    }
    let counted = || {
        let mut counted: BTreeMap<String, u64> = BTreeMap::new();
        for (kind, count) in read_pairs(&node, "quakes.counts") {
            *counted.entry(kind).or_default() += count.parse::<u64>().expect("a number");
        }
        counted
    };
    let lag = || stage_of(&status(&node), "count")["lag"].as_i64();
    assert!(until(|| lag() == Some(0)), "{:#}", status(&node));
    assert_eq!(counted(), counts);
    let shown = admin(&node, &["status"]).stdout;
    for (part, place) in [("catalogue", "source"), ("check-reports", "ingest"), ("count", "sink")] {
        let is_of = |line: &&str| line.split_whitespace().nth(1) == Some(part);
        let row = shown.lines().find(is_of).unwrap_or_default();
        assert_eq!(row.split_whitespace().nth(2), Some(place), "{shown}");
    }

    reports_are_checked(&node, strong.len());
    assert!(node.stop().status.success());
}

/// Somebody reports an earthquake: what is none is refused, and what is one is routed like the others.
fn reports_are_checked(node: &Node, strong: usize) {
    let dir = TempDir::new().expect("a temporary directory");
    let report = |line: &str| {
        let file = dir.path().join("report");
        fs::write(&file, line).expect("it can be written");
        millstream(&["produce", "--bootstrap", &node.bootstrap(), "-t", "quakes.reports", "-f", &text(&file)])
    };
    // librdkafka tells its users the error and not the reason, which other clients see as well; here the status says it.
    for (line, reason) in [
        ("the house shook\n", "1 fields, not 12"),
        ("2026/11/26 00:00:00,north,-67.1,19.9,6.5,Mw,,,,,me,r1\n", "Latitude is \"north\", no number"),
    ] {
        assert!(!report(line).status.success(), "{line}");
        let status = status(node);
        let last = stage_of(&status, "check-reports")["last_rejection"].as_str().unwrap_or_default();
        assert!(last.contains(reason), "{status:#}");
    }
    assert_eq!(stored(node, "quakes.reports"), 0);
    assert!(report("2026/11/26 00:00:00,18.1,-67.1,19.9,6.5,Mw,,,,,me,r1\n").status.success());
    assert!(until(|| stored(node, "quakes.strong") == strong + 1), "{:#}", status(node));
}
