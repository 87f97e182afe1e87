//! Configurations, tried on records.

use millstream_sdk::testing::{Harness, Input};

use super::Filter;

/// Whether a record with that value is kept.
#[track_caller]
fn check_field(config: &str, value: &str, kept: bool) {
    check(config, Input::value(value), kept);
}

/// Whether a record with header `h` is kept.
#[track_caller]
fn check_header(config: &str, header: &str, kept: bool) {
    check(config, Input::value("not JSON").header("h", "earlier").header("h", header), kept);
}

#[track_caller]
fn check(config: &str, input: Input, kept: bool) {
    for (action, kept) in [("keep", kept), ("drop", !kept)] {
        let config = config.replacen('{', &format!(r#"{{"action":"{action}","#), 1);
        let outcome = Harness::<Filter>::new(&config).unwrap().run([input.clone()]).unwrap();
        assert_eq!(outcome.rejected, []);
        assert_eq!(
            outcome.outputs.iter().filter(|output| output.unchanged).count(),
            usize::from(kept),
            "{config}"
        );
    }
}

#[track_caller]
fn check_refused(config: &str, expect: &str) {
    let refused = Harness::<Filter>::new(config).err().expect("the configuration is refused");
    assert!(refused.reason().contains(expect), "{refused:?}");
}

#[test]
fn a_field_equals() {
    check_field(r#"{"field":"a.b","equals":"x"}"#, r#"{"a":{"b":"x"}}"#, true);
    check_field(r#"{"field":"a.b","equals":"x"}"#, r#"{"a":{"b":"y"}}"#, false);
    check_field(r#"{"field":"a.b","equals":"x"}"#, r#"{"a":"x"}"#, false);
    check_field(r#"{"field":"n","equals":404}"#, r#"{"n":404}"#, true);
    check_field(r#"{"field":"n","equals":404}"#, r#"{"n":404.0}"#, true);
    check_field(r#"{"field":"n","equals":404}"#, r#"{"n":"404"}"#, false);
    // Too close for floating point, and still two numbers.
    check_field(r#"{"field":"n","equals":9007199254740993}"#, r#"{"n":9007199254740992}"#, false);
    check_field(r#"{"field":"n","equals":null}"#, r#"{"n":null}"#, true);
    check_field(r#"{"field":"n","equals":null}"#, "{}", false);
    check_field(r#"{"field":"n","not_equals":1}"#, r#"{"n":2}"#, true);
    check_field(r#"{"field":"n","not_equals":1}"#, r#"{"n":1}"#, false);
    check_field(r#"{"field":"n","not_equals":1}"#, "{}", true);
    check_field(r#"{"field":"n","in":[1,"x",true]}"#, r#"{"n":true}"#, true);
    check_field(r#"{"field":"n","in":[1,"x",true]}"#, r#"{"n":false}"#, false);
    check_field(r#"{"field":"n","in":[]}"#, r#"{"n":false}"#, false);
}

#[test]
fn a_field_is_compared() {
    check_field(r#"{"field":"n","gt":399,"lt":500}"#, r#"{"n":404}"#, true);
    check_field(r#"{"field":"n","gt":399,"lt":500}"#, r#"{"n":500}"#, false);
    check_field(r#"{"field":"n","gt":399,"lt":500}"#, r#"{"n":399}"#, false);
    check_field(r#"{"field":"n","gte":399,"lte":500}"#, r#"{"n":500}"#, true);
    check_field(r#"{"field":"n","gte":399,"lte":500}"#, r#"{"n":398.9}"#, false);
    check_field(r#"{"field":"n","gt":0}"#, r#"{"n":"7"}"#, false);
    check_field(r#"{"field":"n","lt":0}"#, "{}", false);
    check_field(r#"{"field":"path","matches":"/api/"}"#, r#"{"path":"/api/x"}"#, true);
    check_field(r#"{"field":"path","matches":"/api/"}"#, r#"{"path":"/x/api/"}"#, false);
    check_field(r#"{"field":"0","exists":true}"#, "[null]", true);
    check_field(r#"{"field":"0","exists":false}"#, "[]", true);
    check_field(r#"{"field":"0","exists":false}"#, "[1]", false);
    check(r#"{"field":"a","exists":false}"#, Input::null(), true);
}

#[test]
fn a_header_is_text() {
    check_header(r#"{"header":"h","equals":"x"}"#, "x", true);
    check_header(r#"{"header":"h","equals":"earlier"}"#, "x", false);
    check_header(r#"{"header":"h","equals":404}"#, "404", true);
    check_header(r#"{"header":"h","in":[true]}"#, "true", true);
    check_header(r#"{"header":"h","matches":"ab"}"#, "abc", true);
    check_header(r#"{"header":"h","gt":1.5}"#, " 2", true);
    check_header(r#"{"header":"h","gt":1.5}"#, "two", false);
    check_header(r#"{"header":"x","exists":false}"#, "", true);
    check_header(r#"{"header":"h","equals":null}"#, "null", false);
    check(r#"{"header":"h","equals":null}"#, Input::null().null_header("h"), true);
}

#[test]
fn a_value_that_is_not_json_is_rejected() {
    let mut harness = Harness::<Filter>::new(r#"{"field":"a","exists":false}"#).unwrap();
    let outcome = harness.run(["plain text"]).unwrap();
    assert_eq!(outcome.outputs, []);
    assert!(outcome.rejected[0].reason.starts_with("the value is not JSON: "), "{:?}", outcome.rejected);
}

#[test]
fn a_wrong_configuration_is_refused() {
    check_refused("null", "neither `header` nor `field` is given");
    check_refused(r#"{"header":"h","field":"f","exists":true}"#, "both `header` and `field` are given");
    check_refused(r#"{"header":"h"}"#, "there is no condition");
    check_refused(r#"{"field":"a..b","exists":true}"#, "`field` is \"a..b\"");
    check_refused(r#"{"field":"a","equals":{}}"#, "can't compare with {}");
    check_refused(r#"{"field":"a","in":[[1]]}"#, "can't compare with [1]");
    check_refused(r#"{"field":"a","greater":1}"#, "unknown field `greater`");
    check_refused(r#"{"field":"a","action":"hide","exists":true}"#, "unknown variant `hide`");
    let deep = ["a"; 33].join(".");
    check_refused(&format!(r#"{{"field":"{deep}","exists":true}}"#), "`field` has 33 names");
}
