//! What fails, and what the stage does about it.

use super::*;

/// The batch before is committed, the bad one is not, and applying again goes on with it.
#[tokio::test]
async fn a_plugin_that_fails_stops_before_its_batch() {
    let trap = "(if (i32.eq (local.get $count) (i32.const 2)) (then unreachable))";
    let endless = "(if (i32.eq (local.get $count) (i32.const 2)) (then (loop $again (br $again))))";
    let hungry = "(if (i32.eq (local.get $count) (i32.const 2)) (then (loop $again
        (br_if $again (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))) unreachable))";
    for (body, kind) in [(trap, "trap"), (endless, "timeout"), (hungry, "memory_limit")] {
        let fixture = Fixture::new();
        fixture.append(0, &["a"]);
        fixture.append(0, &["bad", "batch"]);
        fixture.append(0, &["c"]);
        let keep_first =
            "(i32.store8 (i32.const 2048) (i32.const 0)) (i32.store8 (i32.const 2049) (i32.const 2))
            (call $ok (i32.const 2048) (i32.const 2))";
        let guest = guests::batch_guest(&format!("{body} {keep_first}"));
        fixture.apply(vec![fixture.stage(&[guest])]).await;
        let failure = fixture.until_failed().await;
        assert_eq!(
            (failure.kind, failure.offset, failure.partition),
            (kind, Some(1), Some(0)),
            "{}",
            failure.reason
        );
        assert_eq!(failure.plugin.as_deref(), Some("plugin0"));
        assert_eq!(values(&fixture.cluster, "out", 0), ["a"]);
        assert_eq!(fixture.cluster.committed("test.stage", "in", 0).unwrap().next_offset, 1);

        let applied = fixture.apply(vec![fixture.stage(&[guests::identity()])]).await;
        assert_eq!(applied.restarted, ["stage"]);
        fixture.until_committed(0, 4).await;
        assert_eq!(values(&fixture.cluster, "out", 0), ["a", "bad", "batch", "c"]);
        fixture.runtime.shutdown().await;
    }
}

/// Rejects record 1, keeps record 0.
fn rejecting() -> Vec<u8> {
    guests::batch_guest(
        "(i32.store8 (i32.const 2048) (i32.const 0)) (i32.store8 (i32.const 2049) (i32.const 2))
         (call $reject (i32.const 2048) (i32.const 2) (i32.const 1))",
    )
}

#[tokio::test]
async fn a_rejected_record_follows_the_policy() {
    for (on_error, dead) in [(OnError::Skip, 0), (OnError::DeadLetter("dead".into()), 1)] {
        let fixture = Fixture::new();
        fixture.append(1, &["good", "bad"]);
        let stage = StageSpec { on_error, ..fixture.stage(&[guests::identity(), rejecting()]) };
        fixture.apply(vec![stage]).await;
        fixture.until_committed(1, 2).await;
        assert_eq!(values(&fixture.cluster, "out", 1), ["good"]);
        let letters = records(&fixture.cluster, "dead", 0);
        assert_eq!(letters, vec![("bad".to_owned(), 1001, 8); dead]);
        let status = &fixture.runtime.status()[0];
        assert_eq!((status.records_rejected, status.last_rejection.as_deref()), (1, Some("because")));
        fixture.runtime.shutdown().await;
    }
    let fixture = Fixture::new();
    fixture.append(1, &["good", "bad"]);
    fixture.apply(vec![fixture.stage(&[rejecting()])]).await;
    let failure = fixture.until_failed().await;
    assert_eq!(failure.kind, "rejected");
    assert!(failure.reason.contains("offset 1: because"), "{}", failure.reason);
    assert!(values(&fixture.cluster, "out", 1).is_empty());
}

#[tokio::test]
async fn a_retry_is_tried_again() {
    let fixture = Fixture::new();
    fixture.append(0, &["a"]);
    let guest = guests::batch_guest_of(&guests::Guest {
        init: guests::AGREE,
        items: "(global $calls (mut i32) (i32.const 0))",
        transform: "(global.set $calls (i32.add (global.get $calls) (i32.const 1)))
            (if (result i32) (i32.lt_u (global.get $calls) (i32.const 3))
                (then (call $err (i32.const 0))) (else (call $ok (i32.const 0) (i32.const 0))))",
    });
    fixture.apply(vec![fixture.stage(std::slice::from_ref(&guest))]).await;
    fixture.until_committed(0, 1).await;
    assert_eq!(fixture.runtime.status()[0].state, StageState::Running);
    fixture.runtime.shutdown().await;

    // As often as the stage says, and no more.
    let fixture = Fixture::new();
    fixture.append(0, &["a"]);
    let backoff = std::time::Duration::from_millis(1);
    let retry = RetryPolicy { retries: 1, backoff, backoff_max: backoff };
    fixture.apply(vec![StageSpec { retry, ..fixture.stage(&[guest]) }]).await;
    let failure = fixture.until_failed().await;
    assert_eq!((failure.kind, failure.reason.ends_with("again: because")), ("retry", true), "{failure:?}");
    fixture.runtime.shutdown().await;
}

#[test]
fn waits_between_retries_grow_up_to_their_limit() {
    let policy = RetryPolicy::default();
    let waits: Vec<u128> =
        [0, 1, 2, 6, 7, 40, u32::MAX].map(|retry| policy.backoff(retry).as_millis()).into();
    assert_eq!(waits, [100, 200, 400, 6400, 10_000, 10_000, 10_000]);
}

#[tokio::test]
async fn a_lost_port_is_opened_again_and_nothing_is_missing() {
    let fixture = Fixture::new();
    fixture.append(0, &["a"]);
    fixture.cluster.fail_commits([
        PortError::Unavailable("the broker restarts".to_owned()),
        PortError::Fenced("the group has moved on".to_owned()),
    ]);
    fixture.apply(vec![fixture.stage(&[guests::identity()])]).await;
    fixture.until_committed(0, 1).await;
    assert_eq!(fixture.cluster.opened(), 3);
    assert_eq!(values(&fixture.cluster, "out", 0), ["a"]);
    fixture.runtime.shutdown().await;
}

#[tokio::test]
async fn an_error_that_stays_fails_the_stage() {
    let fixture = Fixture::new();
    fixture.append(0, &["a"]);
    fixture.cluster.fail_commits([PortError::Fatal("the record is too large".to_owned())]);
    fixture.apply(vec![fixture.stage(&[])]).await;
    let failure = fixture.until_failed().await;
    assert_eq!((failure.kind, failure.reason.as_str()), ("port", "the record is too large"));
}

#[tokio::test]
async fn revoked_partitions_are_committed_first_and_come_back() {
    let fixture = Fixture::new();
    for value in 0..50 {
        fixture.append(0, &[&value.to_string()]);
    }
    fixture.apply(vec![fixture.stage(&[guests::identity()])]).await;
    fixture.until_committed(0, 1).await;
    fixture.cluster.revoke([TopicPartition { topic: "in".into(), partition: 0 }]);
    fixture.append(0, &["last"]);
    fixture.until_committed(0, 51).await;
    assert_eq!(values(&fixture.cluster, "out", 0).len(), 51);
    fixture.runtime.shutdown().await;
}

#[tokio::test]
async fn an_unchanged_stage_is_not_disturbed() {
    let fixture = Fixture::new();
    let other = |fixture: &Fixture| StageSpec {
        name: "other".to_owned(),
        group: "other".to_owned(),
        to: vec!["wide".into()],
        ..fixture.stage(&[])
    };
    let applied = fixture.apply(vec![fixture.stage(&[guests::identity()]), other(&fixture)]).await;
    assert_eq!(applied.started, ["stage", "other"]);
    fixture.append(0, &["a"]);
    fixture.until_committed(0, 1).await;
    let opened = fixture.cluster.opened();

    let stage = StageSpec { on_error: OnError::Skip, ..other(&fixture) };
    let applied = fixture.apply(vec![fixture.stage(&[guests::identity()]), stage]).await;
    assert_eq!((applied.unchanged, applied.restarted), (vec!["stage".to_owned()], vec!["other".to_owned()]));
    let removed = fixture.runtime.remove("test").await;
    assert_eq!(removed.removed, ["other", "stage"]);
    assert!(fixture.runtime.status().is_empty());
    assert!(fixture.cluster.opened() <= opened + 2);
}

/// Symptom: a stage stayed stopped for good, and applying its pipeline again called it unchanged. Cause: whoever applied it
/// was dropped after it had told the stage to stop, and only a failed stage was started anew. Fix: so is a stopped one.
#[tokio::test]
async fn a_stage_that_was_left_stopped_is_restarted() {
    let fixture = Fixture::new();
    let stage = || fixture.stage(&[guests::identity()]);
    fixture.apply(vec![stage()]).await;
    let changed = StageSpec { on_error: OnError::Skip, ..stage() };
    tokio::select! {
        biased;
        _ = fixture.apply(vec![changed]) => panic!("stopping takes longer"),
        () = std::future::ready(()) => {}
    }
    assert_eq!(fixture.apply(vec![stage()]).await.restarted, ["stage"]);
    fixture.append(0, &["a"]);
    fixture.until_committed(0, 1).await;
}

#[tokio::test]
async fn garbage_in_a_topic_stops_the_stage_and_not_the_process() {
    let fixture = Fixture::new();
    let mut bytes = batch(&["a"], Compression::None).to_vec();
    *bytes.last_mut().unwrap() ^= 0xff;
    fixture.cluster.append("in", 0, &bytes.into());
    fixture.apply(vec![fixture.stage(&[])]).await;
    assert_eq!(fixture.until_failed().await.kind, "input");
}

/// A plugin that finds no memory because others have it is not to blame, and neither are its records.
#[tokio::test]
async fn a_stage_without_memory_waits_and_skips_nothing() {
    let mut fixture = Fixture::new();
    fixture.engine = PluginEngine::new(EngineConfig { memory_bytes_max: 6 << 20, ..EngineConfig::default() });
    // 2 MiB and a little each; 4 MiB more for the first batch.
    let hungry = guests::batch_guest(
        "(if (i32.lt_u (memory.size) (i32.const 64))
           (then (if (i32.eq (memory.grow (i32.const 64)) (i32.const -1)) (then unreachable))))
         (i32.store8 (i32.const 2048) (i32.const 0)) (i32.store8 (i32.const 2049) (i32.const 2))
         (call $ok (i32.const 2048) (i32.const 2))",
    );
    let named = |name: &str| {
        let stage = fixture.stage(std::slice::from_ref(&hungry));
        StageSpec { name: name.to_owned(), group: name.to_owned(), on_error: OnError::Skip, ..stage }
    };
    let is_committed = async |name: &str| {
        let reached = |cluster: &MemoryCluster| {
            cluster.committed(name, "in", 0).is_some_and(|offset| offset.next_offset == 1)
        };
        tokio::time::timeout(DEADLINE, fixture.cluster.until(reached)).await.unwrap();
    };
    fixture.append(0, &["a"]);
    fixture.apply(vec![named("first")]).await;
    is_committed("first").await;
    fixture.apply(vec![named("first"), named("second")]).await;
    let second = || fixture.runtime.status().into_iter().find(|status| status.stage == "second").unwrap();
    let waits =
        |state| matches!(state, StageState::Waiting { reason } if reason.contains("plugin.memory.bytes.max"));
    fixture.until(|| waits(second().state)).await;
    assert_eq!(fixture.cluster.committed("second", "in", 0), None);
    fixture.apply(vec![named("second")]).await;
    is_committed("second").await;
    assert_eq!(
        (second().records_rejected, values(&fixture.cluster, "out", 0)),
        (0, vec!["a".into(), "a".into()])
    );
    fixture.runtime.shutdown().await;
}
