//! The plugin against servers that a test plays.

use std::cell::RefCell;
use std::rc::Rc;

use millstream_sdk::run::http::{Request, Response};
use millstream_sdk::testing::{RunDone, RunTest};

use super::*;

fn config(json: &str) -> Config {
    let mut config: serde_json::Value = serde_json::from_str(json).unwrap();
    if config["url"].is_null() {
        config["url"] = "https://api.example.com/items".into();
    }
    serde_json::from_value(config).unwrap()
}

/// Runs it for as many requests as there are answers.
fn run_with(
    config: &Config,
    position: Option<&str>,
    answers: Vec<Result<Response>>,
) -> (RunDone, Vec<Request>) {
    let sleeps = u32::try_from(answers.len()).unwrap() - 1;
    let (asked, mut answers) = (Rc::new(RefCell::new(Vec::new())), answers.into_iter());
    let seen = Rc::clone(&asked);
    let mut test = RunTest::new().secret("token", "s3cret").sleeps(sleeps).http(move |request| {
        seen.borrow_mut().push(request.clone());
        answers.next().expect("no more requests than answers")
    });
    if let Some(position) = position {
        test = test.position(position);
    }
    let done = test.source(|source| http_poll(source, config));
    let asked = asked.take();
    (done, asked)
}

fn ok(body: &str) -> Result<Response> {
    Ok(Response::new(200, body))
}

fn values(done: &RunDone) -> Vec<&str> {
    done.written.iter().map(|message| std::str::from_utf8(message.value()).unwrap()).collect()
}

fn position(done: &RunDone) -> Position {
    serde_json::from_slice(done.position.as_deref().unwrap()).unwrap()
}

#[test]
fn elements_become_records_once_while_the_server_says_that_nothing_changed() {
    let first = Response::new(200, r#"{"data": [{"id": "a", "n": 1}, {"n": 2}]}"#);
    let first = first.with_header("ETag", "\"v1\"").with_header("Last-Modified", "Mon");
    let (done, asked) = run_with(
        &config(r#"{"items": "/data", "key": "/id", "token": "token"}"#),
        None,
        vec![Ok(first), Ok(Response::new(304, ""))],
    );
    assert_eq!(done.result, Ok(()));
    assert_eq!(
        done.written,
        [Outgoing::new(r#"{"id": "a", "n": 1}"#).key("a"), Outgoing::new(r#"{"n": 2}"#)]
    );
    assert_eq!(done.counters["records"], 2);
    assert_eq!(asked[0].header_value("authorization"), Some("Bearer [secret token]"));
    assert_eq!(asked[0].header_value("if-none-match"), None);
    let conditions = ["if-none-match", "if-modified-since"].map(|name| asked[1].header_value(name));
    assert_eq!(conditions, [Some("\"v1\""), Some("Mon")]);
    // Another life goes on from there.
    let kept = String::from_utf8(done.position.clone().unwrap()).unwrap();
    let (_, asked) = run_with(&config("{}"), Some(&kept), vec![Ok(Response::new(304, ""))]);
    assert_eq!(asked[0].header_value("if-none-match"), Some("\"v1\""));
}

#[test]
fn a_cursor_goes_with_the_next_request_and_outlives_an_empty_answer() {
    let config =
        config(r#"{"url": "https://a.b/c?d=e", "cursor": {"parameter": "since", "pointer": "/at"}}"#);
    let (done, asked) =
        run_with(&config, None, vec![ok(r#"[{"at": 1}, {"at": "2 &x"}]"#), ok("[]"), ok("[]")]);
    let urls: Vec<_> = asked.iter().map(Request::url).collect();
    assert_eq!(
        urls,
        ["https://a.b/c?d=e", "https://a.b/c?d=e&since=2%20%26x", "https://a.b/c?d=e&since=2%20%26x"]
    );
    assert_eq!(position(&done).cursor.as_deref(), Some("2 &x"));
    assert_eq!(values(&done), [r#"{"at": 1}"#, r#"{"at": "2 &x"}"#]);
}

#[test]
fn elements_are_produced_as_they_are() {
    let config =
        config(r#"{"items": "/a~1b/1", "key": "/k/0", "cursor": {"parameter": "after", "pointer": "/id"}}"#);
    let item = r#"{"id": 12345678901234567890123,  "n":1.10, "b":1, "a":2, "a":3, "k":["\u00e9"]}"#;
    let answer = format!(r#"{{"z": {{}}, "a/b": [0, [{item}, 1]]}}"#);
    let (done, asked) = run_with(&config, None, vec![ok(&answer), ok("{}")]);
    assert_eq!(done.written, [Outgoing::new(item).key("\u{e9}"), Outgoing::new("1")]);
    assert_eq!(asked[1].url(), "https://api.example.com/items?after=12345678901234567890123");
}

#[test]
fn lines_and_whole_answers_are_records_too() {
    let (done, _) = run_with(&config(r#"{"split": "lines"}"#), None, vec![ok("a\r\n\nb")]);
    assert_eq!(values(&done), ["a", "b"]);
    let (done, _) = run_with(&config(r#"{"split": "none"}"#), None, vec![ok("a\nb")]);
    assert_eq!(values(&done), ["a\nb"]);
}

#[test]
fn an_empty_answer_makes_no_record() {
    for split in ["json", "lines", "none"] {
        let config = config(&format!(r#"{{"split": "{split}"}}"#));
        let (done, asked) = run_with(&config, None, vec![Ok(Response::new(204, "")), ok(""), ok("[1]")]);
        assert_eq!((&done.result, asked.len(), done.written.len()), (&Ok(()), 3, 1), "{split}");
    }
}

#[test]
fn an_answer_that_is_none_is_asked_for_again_and_not_for_ever() {
    let page = || ok("<html>busy</html>");
    // Four in a row, twice.
    let answers = vec![page(), page(), page(), page(), ok("[1]"), page(), page(), page(), page(), ok("[2]")];
    let (done, _) = run_with(&config("{}"), None, answers);
    assert_eq!((&done.result, values(&done)), (&Ok(()), vec!["1", "2"]));
    for (items, body, reason) in [
        ("", "{", "the answer is no JSON"),
        ("", "{}", "the answer has no array at \"items\": \"\", 5 times in a row"),
        ("/a", "{}", "the answer has nothing at \"items\": \"/a\", 5 times in a row"),
    ] {
        let config = config(&format!(r#"{{"items": "{items}"}}"#));
        let (done, asked) = run_with(&config, None, (0..5).map(|_| ok(body)).collect());
        let Err(Error::Stop(told)) = done.result else { panic!("{:?}", done.result) };
        assert!(told.starts_with(reason) && asked.len() == 5, "{told}");
    }
}

#[test]
fn what_may_get_better_is_asked_again_and_what_does_not_stops() {
    let (done, asked) = run_with(
        &config("{}"),
        None,
        vec![Err(Error::retry("no connection")), Ok(Response::new(503, "")), ok("[1]")],
    );
    assert_eq!((&done.result, values(&done), asked.len()), (&Ok(()), vec!["1"], 3));
    let stops = |answer| match run_with(&config("{}"), None, vec![answer]).0.result {
        Err(Error::Stop(reason)) => reason,
        other => panic!("{other:?}"),
    };
    assert_eq!(stops(Ok(Response::new(404, ""))), "the server answers 404");
    assert_eq!(stops(Err(Error::stop("denied"))), "denied");
    let (done, _) = run_with(&config("{}"), Some("here"), vec![ok("[]")]);
    assert!(matches!(done.result, Err(Error::Stop(_))), "{:?}", done.result);
}
