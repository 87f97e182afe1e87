//! Lines in, JSON out.

use millstream_sdk::testing::{Harness, Input};

use crate::CsvLines;
use crate::line::fields;

const CONFIG: &str = r#"{"columns": ["id", "name", "size"], "numbers": ["size"], "key": "id",
                         "routes": [{"column": "size", "gte": 5, "to": "large"}]}"#;

#[test]
fn fields_are_split_where_commas_are_in_no_quotes() {
    let split = |line| fields(line).map(|fields| fields.iter().map(ToString::to_string).collect::<Vec<_>>());
    for (line, expected) in [("", vec![""]), ("a,,c", vec!["a", "", "c"]), (r#""a,b",c"#, vec!["a,b", "c"])] {
        assert_eq!(split(line), Ok(expected.into_iter().map(str::to_owned).collect()), "{line}");
    }
    assert_eq!(split(r#""say ""hi""",b"#), Ok(vec![r#"say "hi""#.to_owned(), "b".to_owned()]));
    for bad in [r#""a"#, r#"x,"a"b"#, r#"""""#] {
        assert!(split(bad).is_err(), "{bad}");
    }
}

#[test]
fn lines_become_json_and_go_where_their_numbers_say() {
    let mut harness = Harness::<CsvLines>::new(CONFIG).unwrap();
    let lines = ["a,one,4.5", "b,two,5\r", "c,three,", "d,four", "e,five,many"];
    let outcome = harness.run(lines.map(Input::value)).unwrap();
    let texts: Vec<_> = outcome.outputs.iter().map(|output| output.text()).collect();
    assert_eq!(
        texts,
        [
            r#"{"id":"a","name":"one","size":4.5}"#,
            r#"{"id":"b","name":"two","size":5}"#,
            r#"{"id":"c","name":"three","size":null}"#
        ]
    );
    let topics: Vec<_> = outcome.outputs.iter().map(|output| output.topic.as_deref()).collect();
    assert_eq!(topics, [None, Some("large"), None]);
    let reasons: Vec<_> = outcome.rejected.iter().map(|rejected| &*rejected.reason).collect();
    assert_eq!(reasons, ["2 fields, not 3", "size is \"many\", no number"]);
}

#[test]
fn a_line_can_stay_what_it_is() {
    let config = CONFIG.replace("\"key\": \"id\"", "\"output\": \"line\"");
    let mut harness = Harness::<CsvLines>::new(&config).unwrap();
    let outcome = harness.run([Input::value("a,one,1"), Input::value("a,one")]).unwrap();
    assert_eq!(outcome.outputs[0].text(), "a,one,1");
    assert_eq!(outcome.rejected.len(), 1);
}

#[test]
fn a_configuration_that_makes_no_sense_is_refused() {
    for (config, reason) in [
        (r#"{"columns": []}"#, "`columns` is empty"),
        (r#"{"columns": ["a", "a"]}"#, "twice"),
        (r#"{"columns": ["a"], "numbers": ["b"]}"#, "`numbers` names"),
        (r#"{"columns": ["a"], "key": "b"}"#, "`key` names"),
        (r#"{"columns": ["a"], "routes": [{"column": "a", "gte": 1, "to": "t"}]}"#, "none of the `numbers`"),
    ] {
        let refused =
            Harness::<CsvLines>::new(config).err().map(|error| format!("{error:?}")).unwrap_or_default();
        assert!(refused.contains(reason), "{config}: {refused}");
    }
}
