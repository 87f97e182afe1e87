//! Packed outputs, byte by byte as `sdk/wit/README.md` gives them, and both forms against each other.

use super::{Output, Packed, Sink};
use crate::prelude::*;
use crate::record::Batch;
use crate::testing::{Emitted, Harness, Input};

/// What `emit` makes of three records `r0` to `r2`, packed.
#[track_caller]
fn check(emit: fn(&[Record], &mut Output) -> Result<()>, expect: &[u8]) {
    let batch = Batch::default();
    let section = section_of_three();
    let records: Vec<_> = (0..)
        .zip(millstream_record::RecordIter::new(&section))
        .map(|(index, record)| Record::from_packed(&batch, index, record.unwrap()))
        .collect();
    let mut out = Output::new(Sink::Packed(Packed::new()));
    emit(&records, &mut out).unwrap();
    match out.into_sink() {
        Sink::Packed(packed) => assert_eq!(packed.finish(), expect),
        Sink::Typed(_) => panic!("the sink changed"),
    }
}

/// Records with null keys, the values r0, r1 and r2, no headers.
fn section_of_three() -> Vec<u8> {
    (0..3).flat_map(|n: u8| [16, 0, 0, n * 2, 1, 4, b'r', b'0' + n, 0]).collect()
}

#[test]
fn kept_records_are_runs() {
    check(|_, _| Ok(()), &[]);
    check(
        |records, out| {
            records.iter().for_each(|record| out.keep(record));
            Ok(())
        },
        &[0x10, 0x02, 0x06],
    );
    check(
        |records, out| {
            out.keep(&records[0]);
            out.keep(&records[2]);
            Ok(())
        },
        &[0x00, 0x02, 0x00, 0x04],
    );
    // Backwards, and twice the same: no run.
    check(
        |records, out| {
            out.keep(&records[1]);
            out.keep(&records[1]);
            out.keep(&records[0]);
            Ok(())
        },
        &[0x00, 0x04, 0x00, 0x00, 0x00, 0x01],
    );
}

#[test]
fn an_output_is_packed_as_the_contract_says() {
    check(|records, out| out.record(&records[0]).value("hi").emit(), b"\x01\x02\x0a\x01\x04hi\x00");
    check(|records, out| out.record(&records[0]).topic("foo").emit(), b"\x02\x02\x06foo");
    check(
        |records, out| {
            out.keep(&records[0]);
            out.record(&records[0]).key("").null_value().emit()
        },
        b"\x00\x02\x01\x00\x06\x00\x01\x00",
    );
    check(
        |records, out| {
            let out = out.record(&records[1]).partition(3).timestamp(64).topic("t");
            out.header("h", "v").null_header("n").emit()
        },
        b"\x0f\x04\x02t\x06\x80\x01\x18\x01\x04r1\x04\x02h\x02v\x02n\x01",
    );
    // After a run, the next index counts from the run's last record.
    check(
        |records, out| {
            out.keep(&records[0]);
            out.keep(&records[1]);
            out.record(&records[2]).json(&7).emit()
        },
        b"\x10\x02\x04\x01\x02\x08\x01\x027\x00",
    );
}

#[test]
fn what_changes_nothing_has_no_body() {
    check(|records, out| out.record(&records[0]).clear_headers().emit(), &[0x00, 0x02]);
}

#[transform]
fn scripted(record: Record, out: &mut Output) -> Result<()> {
    match record.text()? {
        "keep" => out.keep(&record),
        "drop" => {}
        "edit" => out
            .record(&record)
            .key(record.topic())
            .json(&(record.offset(), record.partition()))
            .header("added", b"\xff")
            .timestamp(record.timestamp() + 1)
            .topic("other")
            .partition(1)
            .emit()?,
        "clear" => out.record(&record).header("lost", "x").clear_headers().header("only", "y").emit()?,
        "erase" => out.record(&record).null_key().null_value().emit()?,
        "twice, then bad" => {
            out.keep(&record);
            out.record(&record).value("x").emit()?;
            Err("changed my mind")?;
        }
        "topic" => out.record(&record).topic("a/b").emit()?,
        "time" => out.record(&record).timestamp(-1).emit()?,
        "partition" => out.record(&record).partition(1 << 31).emit()?,
        "retry" => return Err(Error::retry("busy")),
        other => return Err(Error::stop(format!("unknown script {other}"))),
    }
    log::info(format!("did {}", record.text()?));
    Ok(())
}

/// What a script emits, which must be the same in both forms.
fn run(scripts: &[&str]) -> Result<crate::testing::Outcome> {
    let inputs = || {
        let input =
            |script: &&str| Input::value(script).key("k").header("h", "v").null_header("n").timestamp(5);
        scripts.iter().map(input).collect::<Vec<_>>()
    };
    let packed = Harness::<scripted>::new("null").unwrap().run(inputs());
    let typed = Harness::<scripted>::typed("null").unwrap().run(inputs());
    assert_eq!(packed, typed);
    packed
}

#[test]
fn both_forms_mean_the_same() {
    let outcome = run(&["drop", "edit", "keep", "keep", "clear", "erase"]).unwrap();
    let key = Some(b"k".to_vec());
    let header = |key: &str, value: &[u8]| (key.to_owned(), Some(value.to_vec()));
    let null = ("n".to_owned(), None);
    let kept = |input| Emitted {
        input,
        unchanged: true,
        topic: None,
        partition: None,
        timestamp: 5,
        key: key.clone(),
        value: Some(b"keep".to_vec()),
        headers: vec![header("h", b"v"), null.clone()],
    };
    let edited = Emitted {
        input: 1,
        unchanged: false,
        topic: Some("other".to_owned()),
        partition: Some(1),
        timestamp: 6,
        key: Some(b"input".to_vec()),
        value: Some(b"[1,0]".to_vec()),
        headers: vec![header("h", b"v"), null.clone(), header("added", b"\xff")],
    };
    let value = Some(b"clear".to_vec());
    let cleared = Emitted { unchanged: false, value, headers: vec![header("only", b"y")], ..kept(4) };
    let erased = Emitted { unchanged: false, key: None, value: None, ..kept(5) };
    assert_eq!(outcome.outputs, [edited, kept(2), kept(3), cleared, erased]);
    assert_eq!(outcome.log.len(), 6);
}

#[test]
fn a_rejected_record_leaves_nothing() {
    let outcome = run(&["keep", "twice, then bad", "keep", "topic", "time", "partition"]).unwrap();
    let inputs: Vec<_> = outcome.outputs.iter().map(|output| output.input).collect();
    assert_eq!(inputs, [0, 2]);
    let reasons: Vec<_> = outcome.rejected.iter().map(|bad| (bad.input, bad.reason.as_str())).collect();
    let expect = [
        (1, "changed my mind"),
        (3, "\"a/b\" is not a topic's name"),
        (4, "the timestamp is before 1970"),
        (5, "the partition is past 2147483647"),
    ];
    assert_eq!(reasons, expect);
}

#[test]
fn retry_and_stop_concern_the_batch() {
    assert_eq!(run(&["keep", "retry"]), Err(Error::retry("busy")));
    assert_eq!(run(&["keep", "what?"]), Err(Error::stop("unknown script what?")));
}

#[test]
fn a_configuration_is_checked() {
    let refused = |config| Harness::<scripted>::new(config).err().map(|error| error.reason().to_owned());
    assert_eq!(refused("{}"), None);
    assert_eq!(refused(" null "), None);
    assert!(refused(r#"{"x": 1}"#).unwrap().contains("unknown field `x`"));
    assert!(refused("[1]").is_some());
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Greeting {
    greeting: String,
}

#[transform]
fn greet(record: Record, out: &mut Output, config: &Greeting) -> Result<()> {
    out.record(&record).value(format!("{}, {}", config.greeting, record.text()?)).emit()
}

#[test]
fn a_function_takes_its_configuration() {
    let mut harness = Harness::<greet>::new(r#"{"greeting": "good day"}"#).unwrap();
    assert_eq!(harness.run(["Ada"]).unwrap().outputs[0].text(), "good day, Ada");
    let refused = Harness::<greet>::new("null").err().unwrap();
    assert!(refused.reason().contains("missing field `greeting`"), "{refused:?}");
}
