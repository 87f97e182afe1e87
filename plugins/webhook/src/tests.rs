//! The plugin against servers that a test plays.

use std::cell::RefCell;
use std::rc::Rc;

use millstream_sdk::run::http::{Request, Response};
use millstream_sdk::testing::{RunDone, RunTest};

use super::*;

const URL: &str = "https://hooks.example.com/in";

fn config(json: &str) -> Config {
    let mut config: serde_json::Value = serde_json::from_str(json).unwrap();
    config["url"] = URL.into();
    serde_json::from_value(config).unwrap()
}

/// Two records, `answers` for their requests, and what was asked.
fn run_with(config: &Config, sleeps: u32, answers: Vec<Result<Response>>) -> (RunDone, Vec<Request>) {
    let (asked, mut answers) = (Rc::new(RefCell::new(Vec::new())), answers.into_iter());
    let seen = Rc::clone(&asked);
    let test = RunTest::new().message("in", 0, 7, r#"{"a":1}"#).message("in", 0, 8, vec![0xff]);
    let test = test.secret("token", "s3cret").sleeps(sleeps).http(move |request| {
        seen.borrow_mut().push(request.clone());
        answers.next().expect("no more requests than answers")
    });
    let done = test.sink(|sink| webhook(sink, config));
    let asked = asked.take();
    (done, asked)
}

fn status(status: u16) -> Result<Response> {
    Ok(Response::new(status, ""))
}

#[test]
fn a_batch_is_posted_and_committed_when_it_is_taken() {
    let (done, asked) = run_with(&config(r#"{"token": "token"}"#), 0, vec![status(204)]);
    assert_eq!((&done.result, done.committed("in", 0)), (&Ok(()), Some(9)));
    assert_eq!(done.counters["delivered"], 2);
    let [request] = &asked[..] else { panic!("{asked:?}") };
    assert_eq!((request.method(), request.url()), ("POST", URL));
    assert_eq!(request.header_value("content-type"), Some("application/json"));
    assert_eq!(request.header_value("authorization"), Some("Bearer [secret token]"));
    let body: serde_json::Value = serde_json::from_slice(request.sent_body()).unwrap();
    let expected = serde_json::json!([
        {"topic": "in", "partition": 0, "offset": 7, "timestamp": 0, "key": null, "value": {"a": 1}, "headers": []},
        {"topic": "in", "partition": 0, "offset": 8, "timestamp": 0, "key": null, "value": {"base64": "/w=="},
         "headers": []},
    ]);
    assert_eq!(body, expected);
}

#[test]
fn json_is_carried_as_it_is_and_every_header_is() {
    let value = "{\"id\": 12345678901234567890123, \"n\":1.10,\n \"b\":1, \"a\":2, \"a\":3}";
    let body = |format: &str| {
        let bodies = Rc::new(RefCell::new(Vec::new()));
        let seen = Rc::clone(&bodies);
        let test = RunTest::new().message("in", 0, 7, value);
        let test = test.header("h", "1").header("g", vec![0xff]).header("h", "2").http(move |request| {
            seen.borrow_mut().push(String::from_utf8(request.sent_body().to_vec()).unwrap());
            status(200)
        });
        let config = config(&format!(r#"{{"format": "{format}"}}"#));
        assert_eq!(test.sink(|sink| webhook(sink, &config)).result, Ok(()));
        bodies.take().remove(0)
    };
    let sent = body("json");
    assert!(sent.contains(&format!("\"value\":{value},")), "{sent}");
    let headers = r#""headers":[{"key":"h","value":"1"},{"key":"g","value":{"base64":"/w=="}},{"key":"h","value":"2"}]"#;
    assert!(sent.contains(headers), "{sent}");
    // A line is one.
    let sent = body("ndjson");
    assert!(sent.contains(&value.replace('\n', " ")) && sent.lines().count() == 1, "{sent}");
}

#[test]
fn lines_and_small_batches_are_possible() {
    let (done, asked) =
        run_with(&config(r#"{"format": "ndjson", "max_records": 1}"#), 0, vec![status(200), status(200)]);
    assert_eq!(done.committed("in", 0), Some(9));
    assert_eq!(asked.len(), 2);
    assert_eq!(asked[0].header_value("content-type"), Some("application/x-ndjson"));
    assert_eq!(asked[0].header_value("authorization"), None);
    let body = String::from_utf8(asked[0].sent_body().to_vec()).unwrap();
    assert!(body.ends_with("}\n") && body.lines().count() == 1, "{body}");
}

#[test]
fn what_may_get_better_is_tried_again_and_nothing_is_committed_before() {
    let answers = || vec![status(503), Err(Error::retry("no connection")), status(429), status(200)];
    let (done, asked) = run_with(&config("{}"), 3, answers());
    assert_eq!((&done.result, done.committed("in", 0), asked.len()), (&Ok(()), Some(9), 4));
    assert_eq!(done.counters["retries"], 3);
    // Told to stop while it waits.
    let (done, asked) = run_with(&config("{}"), 1, answers());
    assert_eq!((&done.result, done.committed("in", 0), asked.len()), (&Ok(()), None, 2));
    // Told to stop while it sends.
    let (done, _) = run_with(&config("{}"), 0, vec![Err(Error::Stopping)]);
    assert_eq!((&done.result, done.committed("in", 0)), (&Ok(()), None));
}

#[test]
fn what_is_refused_stops_or_is_skipped() {
    let (done, _) = run_with(&config("{}"), 0, vec![status(400)]);
    let Err(Error::Stop(reason)) = &done.result else { panic!("{:?}", done.result) };
    assert_eq!(reason, "2 records from in-0 at 7 on: the server answers 400");
    assert_eq!(done.committed("in", 0), None);
    let (done, _) = run_with(&config(r#"{"on_refused": "skip"}"#), 0, vec![status(302)]);
    assert_eq!((&done.result, done.committed("in", 0), done.written.len()), (&Ok(()), Some(9), 0));
    assert_eq!(done.counters["refused"], 2);
    let answers = vec![status(500), status(500)];
    let (done, asked) = run_with(&config(r#"{"on_refused": "skip", "attempts": 2}"#), 1, answers);
    assert_eq!((&done.result, done.committed("in", 0), asked.len()), (&Ok(()), Some(9), 2));
    // A host that is not granted, say.
    let (done, _) = run_with(&config(r#"{"on_refused": "skip"}"#), 0, vec![Err(Error::stop("denied"))]);
    assert_eq!((&done.result, done.committed("in", 0)), (&Err(Error::stop("denied")), None));
}
