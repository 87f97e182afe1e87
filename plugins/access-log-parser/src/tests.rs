//! Whole lines, through the plugin.

use millstream_sdk::testing::{Emitted, Harness};
use serde_json::{Value, json};

use super::access_log_parser;

const COMBINED: &str = r#"83.149.9.216 - - [17/May/2015:10:05:03 +0000] "GET /a?b=c HTTP/1.1" 200 203023 "http://x.org/" "Mozilla/5.0 (X11)""#;

fn parse(line: impl AsRef<[u8]>) -> Result<Emitted, String> {
    let input = millstream_sdk::testing::Input::value(line);
    let mut outcome = Harness::<access_log_parser>::new("null").unwrap().run([input]).unwrap();
    match (outcome.outputs.pop(), outcome.rejected.pop()) {
        (Some(output), None) => Ok(output),
        (None, Some(rejection)) => Err(rejection.reason),
        other => panic!("one output or one rejection, not {other:?}"),
    }
}

/// A line of which only `field` is of interest, and what it should be.
#[track_caller]
fn check(line: impl AsRef<[u8]>, field: &str, expect: Value) {
    assert_eq!(parse(line).unwrap().json()[field], expect);
}

#[track_caller]
fn check_rejected(line: impl AsRef<[u8]>, reason: &str) {
    assert_eq!(parse(line).unwrap_err(), reason);
}

#[test]
fn a_combined_line() {
    let output = parse(COMBINED).unwrap();
    assert_eq!((output.key_text().as_str(), output.timestamp), ("83.149.9.216", 1_431_857_103_000));
    let expect = json!({
        "client": "83.149.9.216", "user": null, "time": "2015-05-17T10:05:03Z", "time_ms": 1_431_857_103_000_i64,
        "method": "GET", "path": "/a", "query": "b=c", "protocol": "HTTP/1.1", "status": 200, "bytes": 203_023,
        "referrer": "http://x.org/", "agent": "Mozilla/5.0 (X11)",
    });
    assert_eq!(output.json(), expect);
}

#[test]
fn a_common_line() {
    let line = "127.0.0.1 - frank [10/Oct/2000:13:55:36 -0700] \"GET /apache_pb.gif HTTP/1.0\" 200 2326\r\n";
    check(line, "user", json!("frank"));
    check(line, "agent", Value::Null);
    check(line, "bytes", json!(2326));
}

#[test]
fn fields_that_are_not_there() {
    let line = r#"- - - [17/May/2015:10:05:03 +0000] "-" 408 - "-" "-""#;
    assert_eq!(parse(line).unwrap().key, None);
    for field in ["client", "user", "method", "path", "query", "protocol", "referrer", "agent", "request"] {
        check(line, field, Value::Null);
    }
    check(line, "bytes", json!(0));
    check(r#"::1 - - [17/May/2015:10:05:03 +0000] "" 400 0"#, "status", json!(400));
}

#[test]
fn clients_and_users() {
    let line = |start: &str| format!(r#"{start} [17/May/2015:10:05:03 +0000] "GET / HTTP/1.1" 200 1"#);
    check(line("2001:db8::8:800:200c:417a - -"), "client", json!("2001:db8::8:800:200c:417a"));
    check(line("host.example.org ident -"), "client", json!("host.example.org"));
    check(line("1.2.3.4 - Ann Smith"), "user", json!("Ann Smith"));
    check(line("1.2.3.4 - DOMAIN\\ann"), "user", json!("DOMAIN\\ann"));
    check_rejected(
        line("x.org:80 1.2.3.4 - -"),
        "expected `client ident user [time]`, found \"x.org:80 1.2.3.4 - - [17/May/2015:10:05:…\"",
    );
}

#[test]
fn quotes_and_escapes() {
    let line = |request: &str, agent: &str| {
        format!(r#"1.2.3.4 - - [17/May/2015:10:05:03 +0000] "{request}" 404 5 "-" "{agent}""#)
    };
    check(line(r"GET /\x22a\x22 HTTP/1.1", "-"), "path", json!("/\"a\""));
    check(line(r#"GET /\"a\" HTTP/1.1"#, "-"), "path", json!("/\"a\""));
    check(line(r#"GET /"a" HTTP/1.1"#, "-"), "path", json!("/\"a\""));
    check(line("GET /a b HTTP/1.1", "-"), "path", json!("/a b"));
    check(line("GET /a HTTP/1.1", r#"\"Bot\" \\o/"#), "agent", json!("\"Bot\" \\o/"));
    check(line("GET /a HTTP/1.1", r#"a "quoted" bot"#), "agent", json!("a \"quoted"));
    check(line(r"\x16\x03\x01\x02", "-"), "request", json!("\u{16}\u{3}\u{1}\u{2}"));
    check(line("GET /é HTTP/1.1", "-"), "path", json!("/é"));
    check([COMBINED.as_bytes(), b" \"1.2.3.4\" 0.003"].concat(), "agent", json!("Mozilla/5.0 (X11)"));
    // Neither UTF-8 nor escaped.
    check(line("GET /caf\u{e9}", "-").replace('é', "\\xe9"), "path", json!("/caf\u{fffd}"));
    let latin1: Vec<u8> = line("GET /café", "-").chars().map(|char| u8::try_from(char).unwrap()).collect();
    check(latin1, "path", json!("/caf\u{fffd}"));
}

#[test]
fn a_line_that_was_cut_in_its_last_field() {
    check(&COMBINED[..COMBINED.len() - 5], "agent", json!("Mozilla/5.0 ("));
}

#[test]
fn malformed_lines_say_what_is_wrong() {
    check_rejected("", "the line is empty");
    check_rejected(" \r\n", "the line is empty");
    check_rejected("hello", "expected `client ident user [time]`, found \"hello\"");
    check_rejected("1.2.3.4 [x]", "expected `client ident user [time]`, found \"1.2.3.4 [x]\"");
    let start = "1.2.3.4 - - [17/May/2015:10:05:03 +0000]";
    check_rejected(&start[..20], "the line ends before the end of the time");
    check_rejected("1.2.3.4 - - [soon] x", "the time \"soon\" is not like 17/May/2015:10:05:03 +0000");
    check_rejected(start.replace("17/", "32/"), "the time \"32/May/2015:10:05:03 +0000\" does not exist");
    check_rejected(start.replace("2015", "1915"), "the time is before 1970");
    check_rejected(start, "the line ends before the request");
    check_rejected(format!("{start} GET /"), "expected the request in quotes, found \"GET /\"");
    check_rejected(format!("{start}x \"GET"), "expected the request in quotes, found \"x\"");
    check_rejected(format!("{start} \"GET /"), "the quote around the request is not closed");
    check_rejected(format!("{start} \"GET /\" 2 1"), "the status \"2\" is not three digits");
    check_rejected(format!("{start} \"GET /\" 200"), "the line ends before the size");
    check_rejected(format!("{start} \"GET /\" 200 many"), "the size \"many\" is not a number of bytes");
    check_rejected(format!("{start} \"GET /\" 200 +1"), "the size \"+1\" is not a number of bytes");
    check_rejected(format!("{start} \"GET /\" 200 1 x"), "expected the referrer in quotes, found \"x\"");
    check_rejected(format!("{start} \"GET /\" 200 1 \"x"), "the quote around the referrer is not closed");
    check_rejected(format!("{start} \"GET /\" 200 1 \"x\""), "the line ends before the agent");
}

#[test]
fn no_line_panics_wherever_it_is_cut_or_bent() {
    let line = COMBINED.as_bytes();
    for at in 0..line.len() {
        let _ = parse(&line[..at]);
        for byte in [b'"', b'\\', b' ', b'[', b']', b'-', 0, 0xff] {
            let mut bent = line.to_vec();
            bent[at] = byte;
            let _ = parse(bent);
        }
    }
}

#[test]
fn a_record_without_a_value_is_rejected() {
    let null = millstream_sdk::testing::Input::null();
    let outcome = Harness::<access_log_parser>::new("null").unwrap().run([null]).unwrap();
    assert_eq!(outcome.rejected[0].reason, "the value is null");
}

#[test]
fn the_example_is_as_its_readme_says() {
    let lines = include_bytes!("../../../examples/access-log/access.log").trim_ascii_end();
    let inputs = lines.split(|&byte| byte == b'\n').map(millstream_sdk::testing::Input::value);
    let outcome = Harness::<access_log_parser>::new("null").unwrap().run(inputs).unwrap();
    let with =
        |status: u64| outcome.outputs.iter().filter(|output| output.json()["status"] == status).count();
    assert_eq!((outcome.outputs.len(), outcome.rejected.len()), (309, 5));
    assert_eq!([with(400), with(403), with(404), with(416), with(500)], [1, 2, 37, 2, 3]);
    let reasons: Vec<_> = outcome.rejected.iter().map(|bad| bad.reason.as_str()).collect();
    let expect = [
        "the quote around the request is not closed",
        "expected `client ident user [time]`, found \"backend restarting, 3 requests dropped\"",
        "the time \"31/Jun/2015:21:05:56 +0000\" does not exist",
        "expected `client ident user [time]`, found \"www.example.org:443 66.249.73.135 - - [1…\"",
        "the status \"OK\" is not three digits",
    ];
    assert_eq!(reasons, expect);
}
