//! Writes `docs/CONFIG.md` from the table, and fails when the file has drifted from it.

use std::fmt::Write as _;
use std::path::Path;

use super::broker::BROKER_CONFIGS;
use super::definition::{ConfigDef, Effect, Unit, Valid};
use super::load::ENVIRONMENT_PREFIX;
use super::topic::TOPIC_CONFIGS;

fn reference() -> String {
    let mut page = format!(
        "# Configuration\n\n\
         This page is written from the table in `broker/src/config` by a test: `UPDATE_DOCS=1 cargo test -p \
         millstream-broker config::reference` writes it again.\n\n\
         A broker's configuration is its defaults, then a file of `key=value` lines (`--config FILE`, the format \
         of Kafka's `server.properties`), then the environment (`log.retention.ms` is \
         `{ENVIRONMENT_PREFIX}LOG_RETENTION_MS`), then the command line; the later one wins. An unknown key is an \
         error. Keys marked *accepted* are stored, checked and reported so that Kafka's tools and files work, but \
         change nothing.\n"
    );
    page.push_str("\n## Broker\n\nFixed while the broker runs.\n\n");
    table(&mut page, BROKER_CONFIGS);
    page.push_str("\n## Topic\n\nSet when a topic is created or altered. Where a topic sets nothing, the broker's key in the last column holds.\n\n");
    table(&mut page, TOPIC_CONFIGS);
    page
}

fn table(page: &mut String, defs: &[ConfigDef]) {
    page.push_str(
        "| key | type | default | valid | meaning | falls back to |\n| --- | --- | --- | --- | --- | --- |\n",
    );
    for def in defs {
        let default = match def.default {
            Some("") => "empty".to_owned(),
            Some(value) => format!("`{value}`"),
            None => String::new(),
        };
        let accepted = if def.effect == Effect::Accepted { "*accepted* " } else { "" };
        let synonyms: Vec<_> = def.synonyms.iter().map(|s| format!("`{}`{}", s.name, unit(s.unit))).collect();
        writeln!(
            page,
            "| `{}` | {} | {default} | {} | {accepted}{} | {} |",
            def.name,
            def.config_type,
            valid(def.valid),
            def.doc,
            synonyms.join(", "),
        )
        .unwrap();
    }
}

fn unit(unit: Unit) -> &'static str {
    match unit {
        Unit::Same => "",
        Unit::Minutes => " (minutes)",
        Unit::Hours => " (hours)",
    }
}

fn valid(valid: Valid) -> String {
    match valid {
        Valid::Any => String::new(),
        Valid::AtLeast(min) => format!("≥ {min}"),
        Valid::Between(min, max) => format!("{min} to {max}"),
        Valid::Ratio => "0 to 1".to_owned(),
        Valid::OneOf(names) => names.join(", "),
        Valid::EachOf(names) => format!("any of {}", names.join(", ")),
        Valid::ThrottledReplicas => "`*` or partition:broker pairs".to_owned(),
    }
}

/// Holds a page of `docs` against what it is written from; writes it where `UPDATE_DOCS` is set.
pub(crate) fn check_page(name: &str, expected: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(name);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, expected).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(found == expected, "docs/{name} has drifted from the code: run this test with UPDATE_DOCS=1");
}

#[test]
fn the_reference_matches_the_table() {
    check_page("CONFIG.md", &reference());
}
