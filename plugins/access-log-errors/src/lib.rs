//! Keeps client and server errors of parsed access logs, and counts them by status and path.
//!
//! Input: what `access-log-parser` writes. Output, for each record whose status is an error, for example
//!
//! ```json
//! {"status":404,"path":"/favicon.ico","count":17,"time":"2015-05-17T10:05:03Z","client":"83.149.9.216"}
//! ```
//!
//! with the key `404 /favicon.ico`, so that a compacted topic holds the newest count of each. The count is this
//! instance's, since it started: a stage of several tasks, or one that was started again, counts anew.

mod counts;

use std::borrow::Cow;

use counts::Counts;
use millstream_sdk::prelude::*;
use serde::{Deserialize, Serialize};

/// The pipeline's `config:`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Config {
    /// The lowest status that is an error.
    min_status: u16,
    /// So many pairs of status and path are counted one by one. Further ones of a status are counted together,
    /// under the path `(other)`.
    paths_max: usize,
}

/// The part of a parsed line that matters here. Fields of later versions of the parser are passed over.
#[derive(Debug, Deserialize)]
struct Request<'a> {
    status: u16,
    #[serde(borrow, default)]
    path: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    time: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    client: Option<Cow<'a, str>>,
}

#[derive(Debug, Serialize)]
struct Counted<'a> {
    status: u16,
    /// None: the request line was not one.
    path: Option<&'a str>,
    count: u64,
    time: Option<&'a str>,
    client: Option<&'a str>,
}

struct AccessLogErrors {
    min_status: u16,
    counts: Counts,
}

impl Default for Config {
    fn default() -> Self {
        Self { min_status: 400, paths_max: 10_000 }
    }
}

#[transform]
impl Transform for AccessLogErrors {
    type Config = Config;

    fn new(config: Config) -> Result<Self> {
        if !(100..=999).contains(&config.min_status) {
            return Err(Error::stop(format!("`min_status` is {}: use 100 to 999", config.min_status)));
        }
        if !(1..=counts::PATHS_MAX).contains(&config.paths_max) {
            let (found, limit) = (config.paths_max, counts::PATHS_MAX);
            return Err(Error::stop(format!("`paths_max` is {found}: use 1 to {limit}")));
        }
        Ok(Self { min_status: config.min_status, counts: Counts::new(config.paths_max) })
    }

    fn record(&mut self, record: Record<'_>, out: &mut Output<'_>) -> Result<()> {
        let request: Request<'_> = record.json()?;
        if request.status < self.min_status {
            return Ok(());
        }
        // Counted under `-`, as the log has it; a path begins with a slash.
        let (path, count) = self.counts.add(request.status, request.path.as_deref().unwrap_or("-"));
        let counted = Counted {
            status: request.status,
            path: (path != "-").then_some(path),
            count,
            time: request.time.as_deref(),
            client: request.client.as_deref(),
        };
        out.record(&record).key(format!("{} {path}", request.status)).json(&counted).emit()
    }
}

#[cfg(test)]
mod tests {
    use millstream_sdk::testing::Harness;

    use super::*;

    /// What comes of requests with these statuses and paths: keys and counts.
    #[track_caller]
    fn check(config: &str, requests: &[(u16, &str)], expect: &[(&str, u64)]) {
        let line =
            |(status, path): &(u16, &str)| format!(r#"{{"status":{status},"path":"{path}","new":[]}}"#);
        let outcome =
            Harness::<AccessLogErrors>::new(config).unwrap().run(requests.iter().map(line)).unwrap();
        assert_eq!(outcome.rejected, []);
        let counts: Vec<_> = outcome
            .outputs
            .iter()
            .map(|output| (output.key_text(), output.json()["count"].as_u64().unwrap()))
            .collect();
        let expect: Vec<_> = expect.iter().map(|(key, count)| ((*key).to_owned(), *count)).collect();
        assert_eq!(counts, expect);
    }

    #[test]
    fn errors_are_counted_by_status_and_path() {
        check(
            "null",
            &[(200, "/a"), (404, "/a"), (399, "/a"), (404, "/b"), (404, "/a"), (500, "/a"), (400, "/a")],
            &[("404 /a", 1), ("404 /b", 1), ("404 /a", 2), ("500 /a", 1), ("400 /a", 1)],
        );
        check(r#"{"min_status": 500}"#, &[(404, "/a"), (500, "/a")], &[("500 /a", 1)]);
    }

    #[test]
    fn beyond_the_limit_paths_are_counted_together() {
        check(
            r#"{"paths_max": 2}"#,
            &[(404, "/a"), (404, "/b"), (404, "/c"), (404, "/d"), (500, "/c"), (404, "/a")],
            &[
                ("404 /a", 1),
                ("404 /b", 1),
                ("404 (other)", 1),
                ("404 (other)", 2),
                ("500 (other)", 1),
                ("404 /a", 2),
            ],
        );
    }

    #[test]
    fn the_output_tells_what_was_counted() {
        let line = r#"{"client":"::1","time":"2015-05-17T10:05:03Z","status":400,"path":null}"#;
        let outcome = Harness::<AccessLogErrors>::new("null").unwrap().run([line]).unwrap();
        assert_eq!(outcome.outputs[0].key_text(), "400 -");
        let expect = r#"{"status":400,"path":null,"count":1,"time":"2015-05-17T10:05:03Z","client":"::1"}"#;
        assert_eq!(outcome.outputs[0].text(), expect);
    }

    #[test]
    fn what_the_parser_did_not_write_is_rejected() {
        let mut harness = Harness::<AccessLogErrors>::new("null").unwrap();
        let outcome = harness.run(["not JSON", "{}", r#"{"status":"404"}"#, r#"{"status":70000}"#]).unwrap();
        assert_eq!((outcome.outputs.len(), outcome.rejected.len()), (0, 4));
        assert!(outcome.rejected[1].reason.contains("missing field `status`"), "{:?}", outcome.rejected[1]);
    }

    #[test]
    fn a_wrong_configuration_is_refused() {
        let check = |config: &str, expect: &str| {
            let refused = Harness::<AccessLogErrors>::new(config).err().unwrap();
            assert!(refused.reason().contains(expect), "{refused:?}");
        };
        check(r#"{"min_status": 0}"#, "`min_status` is 0: use 100 to 999");
        check(r#"{"paths_max": 0}"#, "`paths_max` is 0: use 1 to 50000");
        check(r#"{"minstatus": 400}"#, "unknown field `minstatus`");
    }
}
