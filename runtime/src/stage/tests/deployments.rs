//! Versions: swapped between two batches, taken back when they crash, tried on some partitions; and what becomes of the
//! records that no version can live with.

use super::*;

/// Keeps every record, and crashes if the value of one begins with this character.
fn crashing_at(first: char) -> Vec<u8> {
    // Behind length, attributes, two deltas and the key's length, of a byte each, comes the key: a "k", and the value.
    let check = format!(
        "(local $at i32) (local $end i32)
         (local.set $at (local.get $records))
         (local.set $end (i32.add (local.get $records) (local.get $len)))
         (block $done (loop $next
           (br_if $done (i32.ge_u (local.get $at) (local.get $end)))
           (if (i32.eq (i32.load8_u offset=6 (local.get $at)) (i32.const {}))
             (then unreachable))
           (local.set $at (i32.add (i32.add (local.get $at) (i32.const 1))
             (i32.shr_u (i32.load8_u (local.get $at)) (i32.const 1))))
           (br $next)))",
        first as u32
    );
    guests::batch_guest(&format!("{check} {}", guests::KEEP_ALL))
}

/// Crashes whatever comes.
fn broken() -> Vec<u8> {
    guests::batch_guest("unreachable")
}

impl Fixture {
    /// The stage with this guest as version `number` of its plugin.
    fn version(&self, number: u32, guest: &[u8]) -> StageSpec {
        let mut stage = self.stage(&[guest.to_vec()]);
        stage.plugins[0].version = number;
        stage
    }

    /// The same, with the version before.
    fn version_after(&self, before: &StageSpec, number: u32, guest: &[u8], until_ms: i64) -> StageSpec {
        let mut stage = self.version(number, guest);
        stage.plugins[0].previous = Some(Box::new(Previous::new(before.plugins[0].clone(), until_ms)));
        stage
    }

    fn running_version(&self) -> u32 {
        self.runtime.status()[0].plugins[0].number
    }

    fn metadata(&self, partition: i32) -> String {
        self.cluster.committed("test.stage", "in", partition).unwrap().metadata.to_string()
    }
}

#[tokio::test]
async fn a_version_is_swapped_between_two_batches_without_leaving_the_group() {
    let fixture = Fixture::new();
    fixture.apply(vec![fixture.version(1, &guests::identity())]).await;
    let mut sent = 0;
    for number in 2..30 {
        for _ in 0..20 {
            fixture.append(0, &[&sent.to_string()]);
            sent += 1;
        }
        // In turns a chain that keeps all and one that does so in the other form.
        let guest = if number % 2 == 0 { guests::typed_identity() } else { guests::identity() };
        let applied = fixture.apply(vec![fixture.version(number, &guest)]).await;
        assert_eq!((applied.swapped, applied.restarted), (vec!["stage".to_owned()], Vec::new()));
        assert_eq!(fixture.running_version(), number);
    }
    fixture.append(0, &["last"]);
    fixture.until_committed(0, sent + 1).await;
    let expect: Vec<String> = (0..sent).map(|n| n.to_string()).chain(["last".to_owned()]).collect();
    assert_eq!(values(&fixture.cluster, "out", 0), expect, "nothing is lost, doubled or out of order");
    assert_eq!(fixture.cluster.opened(), 1, "it is the same member of the group");
    assert!(fixture.metadata(0).starts_with("plugin0@v29:"), "{}", fixture.metadata(0));
}

#[tokio::test]
async fn an_idle_stage_takes_a_version_at_once() {
    let fixture = Fixture::new();
    fixture.append(0, &["a"]);
    fixture.apply(vec![fixture.version(1, &guests::identity())]).await;
    fixture.until_committed(0, 1).await;
    let before = fixture.engine.instances();
    fixture.apply(vec![fixture.version(2, &guests::typed_identity())]).await;
    // The old instance goes although nothing comes.
    fixture.until(|| fixture.engine.instances() == before).await;
}

#[tokio::test]
async fn a_version_that_crashes_is_taken_back() {
    let fixture = Fixture::new();
    let mut events = fixture.runtime.events().unwrap();
    let first = fixture.version(1, &guests::identity());
    fixture.apply(vec![first.clone()]).await;
    fixture.append(0, &["a"]);
    fixture.until_committed(0, 1).await;
    fixture.apply(vec![fixture.version_after(&first, 2, &broken(), i64::MAX)]).await;
    fixture.append(0, &["b"]);
    fixture.until_committed(0, 2).await;
    assert_eq!(values(&fixture.cluster, "out", 0), ["a", "b"]);
    assert_eq!(fixture.running_version(), 1);
    assert!(fixture.metadata(0).starts_with("plugin0@v1:"));
    let StageEvent { pipeline, stage, rolled_back } = events.try_recv().unwrap();
    assert_eq!((pipeline.as_str(), stage.as_str()), ("test", "stage"));
    assert_eq!((rolled_back.from, rolled_back.to, rolled_back.canary), (2, 1, false));
    assert!(rolled_back.reason.contains("unreachable"), "{}", rolled_back.reason);
    let status = &fixture.runtime.status()[0];
    let told = status.last_rollback.as_deref().unwrap();
    assert!(told.starts_with("plugin plugin0: version 2 was taken back for 1"), "{told}");
    assert_eq!(status.state, StageState::Running);
    assert_eq!(fixture.cluster.opened(), 1);
    // What was taken back is what the stage has: applying that changes nothing.
    assert_eq!(fixture.apply(vec![first]).await.unchanged, ["stage"]);
}

/// It has worked for so long that the record is to blame.
#[tokio::test]
async fn a_version_that_has_proven_itself_is_not_taken_back() {
    let fixture = Fixture::new();
    let first = fixture.version(1, &guests::identity());
    fixture.append(0, &["a"]);
    fixture.apply(vec![fixture.version_after(&first, 2, &broken(), 1000)]).await;
    assert_eq!(fixture.until_failed().await.kind, "trap");
    assert_eq!(fixture.running_version(), 2);
}

#[tokio::test]
async fn a_version_that_does_not_start_is_taken_back() {
    let fixture = Fixture::new();
    let refusing = guests::Guest { init: guests::REFUSE, items: "", transform: "unreachable" };
    let first = fixture.version(1, &guests::identity());
    fixture.append(0, &["a"]);
    let second = fixture.version_after(&first, 2, &guests::batch_guest_of(&refusing), i64::MAX);
    fixture.apply(vec![second]).await;
    fixture.until_committed(0, 1).await;
    assert_eq!(fixture.running_version(), 1);
}

#[tokio::test]
async fn a_canary_gets_its_partitions_and_goes_when_it_crashes() {
    let fixture = Fixture::new();
    let mut events = fixture.runtime.events().unwrap();
    let canary = |guest: &[u8]| {
        let plugin = fixture.version(2, guest).plugins.remove(0);
        let canary = Canary { index: 0, plugin, partitions: [1].into() };
        StageSpec { canary: Some(canary), ..fixture.version(1, &guests::identity()) }
    };
    fixture.apply(vec![canary(&guests::typed_identity())]).await;
    fixture.append(0, &["a"]);
    fixture.append(1, &["x"]);
    fixture.until_committed(0, 1).await;
    fixture.until_committed(1, 1).await;
    assert!(fixture.metadata(0).starts_with("plugin0@v1:"));
    assert!(fixture.metadata(1).starts_with("plugin0@v2:"));
    let status = fixture.runtime.status()[0].plugins[0].canary.clone().unwrap();
    assert_eq!((status.number, status.partitions), (2, vec![1]));

    assert_eq!(fixture.apply(vec![canary(&broken())]).await.swapped, ["stage"]);
    fixture.append(0, &["b"]);
    fixture.append(1, &["y"]);
    fixture.until_committed(0, 2).await;
    fixture.until_committed(1, 2).await;
    assert_eq!(values(&fixture.cluster, "out", 1), ["x", "y"]);
    assert!(fixture.metadata(1).starts_with("plugin0@v1:"));
    assert!(events.try_recv().unwrap().rolled_back.canary);
    assert_eq!(fixture.runtime.status()[0].plugins[0].canary, None);
}

#[tokio::test]
async fn a_record_that_crashes_the_plugin_is_found_and_the_others_go_on() {
    for (on_error, letters) in [(OnError::Skip, 0), (OnError::DeadLetter("dead".into()), 2)] {
        let fixture = Fixture::new();
        fixture.append(0, &["a", "!b", "c", "d", "!e"]);
        fixture.append(0, &["f"]);
        let stage = StageSpec { on_error, ..fixture.stage(&[crashing_at('!')]) };
        fixture.apply(vec![stage]).await;
        fixture.until_committed(0, 6).await;
        assert_eq!(values(&fixture.cluster, "out", 0), ["a", "c", "d", "f"]);
        assert_eq!(values(&fixture.cluster, "dead", 0), ["!b", "!e"][..letters]);
        let status = &fixture.runtime.status()[0];
        assert_eq!((status.records_in, status.records_rejected), (6, 2));
        assert_eq!(status.state, StageState::Running);
    }
}

/// Whatever a batch holds, it is over at some time.
#[tokio::test]
async fn a_plugin_that_crashes_at_everything_does_not_hold_up_its_partition() {
    let fixture = Fixture::new();
    let values: Vec<String> = (0..500).map(|n| n.to_string()).collect();
    fixture.append(0, &values.iter().map(String::as_str).collect::<Vec<_>>());
    let stage = StageSpec { on_error: OnError::DeadLetter("dead".into()), ..fixture.stage(&[broken()]) };
    fixture.apply(vec![stage]).await;
    fixture.until_committed(0, 500).await;
    assert_eq!(super::values(&fixture.cluster, "dead", 0), values);
}

/// Symptom: a stage could go back to a version whose grants had been withdrawn. Cause: a deployment that differs in nothing
/// but that was taken for the same. Fix: what is gone back to is a part of it.
#[tokio::test]
async fn a_version_is_not_gone_back_to_when_it_may_not_be_any_more() {
    let fixture = Fixture::new();
    let first = fixture.version(1, &guests::identity());
    let second = fixture.version_after(&first, 2, &crashing_at('x'), i64::MAX);
    fixture.apply(vec![second.clone()]).await;
    assert_eq!(fixture.apply(vec![second]).await.unchanged, ["stage"]);
    let alone = fixture.version(2, &crashing_at('x'));
    assert_eq!(fixture.apply(vec![alone]).await.swapped, ["stage"]);
    fixture.append(0, &["x"]);
    let failure = fixture.until_failed().await;
    assert_eq!((failure.kind, fixture.running_version()), ("trap", 2));
}
