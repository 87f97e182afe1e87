//! Sinks whose plugins crash at some records.

use super::*;

/// Whether it crashes when it gets the record, or later, with others.
#[tokio::test]
async fn a_record_that_crashes_the_plugin_goes_out_of_the_way() {
    let cases = ["crash-on-poison", "crash-at-commit"];
    for (mode, on_error) in
        cases.into_iter().flat_map(|mode| [(mode, OnError::Skip), (mode, OnError::DeadLetter("dead".into()))])
    {
        let fixture = Fixture::new();
        fixture.apply(fixture.sink(mode, on_error.clone())).await;
        let filter = TapFilter { side: Some(TapSide::In), ..TapFilter::default() };
        let tap = fixture.runtime.tap("test", "sink", filter).expect("it may be looked at");
        fixture.append("in", 0, &["a", "b", "poison", "c", "d"]);
        fixture.append("in", 1, &["e", "f"]);
        fixture.until_committed(0, 5).await;
        fixture.until_committed(1, 2).await;
        let mut out = fixture.values("out");
        out.sort_unstable();
        out.dedup();
        assert_eq!(out, ["a", "b", "c", "d", "e", "f"], "{mode}");
        let status = fixture.until_counted(7, 1).await;
        assert!(status.last_rejection.as_ref().is_some_and(|why| why.contains("poison")), "{status:?}");
        let letters = fixture.records("dead");
        let fate = if on_error == OnError::Skip {
            assert_eq!(letters, []);
            TapFate::Skipped
        } else {
            let [(value, headers)] = &letters[..] else { panic!("{letters:?}") };
            assert_eq!((value.as_str(), header(headers, OFFSET)), ("poison", "2"));
            assert!(header(headers, REASON).contains("poison"), "{headers:?}");
            assert!(header(headers, PLUGIN).starts_with("runner@"), "{headers:?}");
            TapFate::DeadLettered
        };
        let shown = tokio::time::timeout(DEADLINE, tap.news()).await.expect("it is shown").records;
        assert_eq!(
            shown.iter().map(|record| (record.offset, record.fate)).collect::<Vec<_>>(),
            [(2, Some(fate))]
        );
        // Full speed again, and the next one is found as well.
        fixture.append("in", 1, &["poison", "g", "poison"]);
        fixture.until_committed(1, 5).await;
        fixture.until_out(&["g"]).await;
        fixture.until_counted(10, 3).await;
        assert!(matches!(fixture.status().state, StageState::Running | StageState::Waiting { .. }));
        fixture.runtime.shutdown().await;
    }
}

#[tokio::test]
async fn a_sink_that_stops_names_the_record_that_it_crashes_at() {
    let fixture = Fixture::new();
    fixture.append("in", 0, &["a", "b", "poison", "c"]);
    fixture.append("in", 1, &["d"]);
    fixture.apply(fixture.sink("crash-on-poison", OnError::Stop)).await;
    let failure = fixture.until_failed().await;
    assert_eq!((failure.kind, failure.plugin.as_deref()), ("trap", Some("runner")), "{failure:?}");
    assert_eq!(
        (failure.topic.as_deref(), failure.partition, failure.offset),
        (Some("in"), Some(0), Some(2)),
        "{failure:?}"
    );
    // What lies in front of it is done, and what lies behind it is not.
    assert_eq!(fixture.committed(0), Some(2));
    assert_eq!(fixture.status().records_rejected, 0);
    fixture.runtime.shutdown().await;
}

/// What lies in front of it is neither committed nor done.
#[tokio::test]
async fn a_record_that_was_sought_is_not_committed_for_the_plugin() {
    let fixture = Fixture::new();
    fixture.append("in", 0, &["a", "b", "poison", "c"]);
    fixture.apply(fixture.sink("seek-away", OnError::Skip)).await;
    let failure = fixture.until_failed().await;
    assert_eq!((failure.kind, failure.partition, failure.offset), ("rejected", Some(0), Some(2)));
    assert!(failure.reason.contains("sought it away from what is committed"), "{failure:?}");
    assert_eq!((fixture.committed(0), fixture.status().records_rejected), (None, 0));
    fixture.runtime.shutdown().await;
}

/// Where everything is poison, it is the plugin.
#[tokio::test]
async fn a_plugin_that_crashes_at_every_record_is_stopped() {
    let fixture = Fixture::new();
    fixture.append("in", 0, &["poison"; 30]);
    fixture.apply(fixture.sink("crash-on-poison", OnError::Skip)).await;
    let failure = fixture.until_failed().await;
    assert_eq!((failure.kind, failure.offset), ("rejected", Some(20)), "{failure:?}");
    assert!(failure.reason.contains("after 20 places"), "{failure:?}");
    assert_eq!(fixture.committed(0), Some(20));
    fixture.runtime.shutdown().await;
}

/// It waits for a commit that never comes, in a poll for an hour.
#[tokio::test]
async fn a_sink_that_gets_its_records_one_at_a_time_learns_of_a_rebalance() {
    let fixture = Fixture::new();
    fixture.append("in", 0, &["a", "poison", "b"]);
    fixture.apply(fixture.sink("hoard", OnError::Skip)).await;
    // Together twice, and then alone.
    fixture.until("it has a alone", |fixture| fixture.values("out") == ["a"]).await;
    let partition = TopicPartition { topic: "in".into(), partition: 0 };
    fixture.cluster.revoke([partition]);
    let told = async { fixture.until_out(&["nothing"]).await };
    tokio::time::timeout(Duration::from_secs(8), told).await.expect("before the next record comes");
    // That comes although nothing is committed, and is found with the one in front of it.
    fixture.until_committed(0, 2).await;
    fixture.runtime.shutdown().await;
}

/// Symptom: a batch that could not be opened was committed and nowhere. Cause: its letter was only queued when the plugin
/// crashed at the record behind it, which then was committed. Fix: it is written before that record is handed over.
#[tokio::test]
async fn a_batch_in_front_of_a_record_that_crashes_is_a_dead_letter_too() {
    let fixture = Fixture::new();
    fixture.append("in", 0, &["a"]);
    fixture.cluster.append("in", 0, &damaged(&["b", "c"]));
    fixture.append("in", 0, &["poison", "d"]);
    fixture.apply(fixture.sink("crash-on-poison", OnError::DeadLetter("dead".into()))).await;
    fixture.until_committed(0, 5).await;
    let letters = fixture.records("dead");
    let mut offsets: Vec<&str> = letters.iter().map(|(_, headers)| header(headers, OFFSET)).collect();
    offsets.sort_unstable();
    offsets.dedup();
    assert_eq!(offsets, ["1", "3"]);
    fixture.runtime.shutdown().await;
}
