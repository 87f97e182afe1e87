//! Ingests and views, with well-behaved and hostile plugins.

use std::collections::BTreeMap;
use std::time::Duration;

use millstream_record::{BatchBuilder, Compression, RecordBatch};
use prometheus_client::registry::Registry;

use super::*;
use crate::batch::Position;
use crate::clock::SystemClock;
use crate::engine::{EngineConfig, PluginEngine};
use crate::environment::Environment;
use crate::grants::Grants;
use crate::guests;
use crate::limits::PluginLimits;
use crate::pipeline::Pipeline;
use crate::plugin::PluginError;
use crate::runtime::{Applied, Runtime};
use crate::stage::memory::MemoryCluster;
use crate::stage::{
    OnError, PortError, Previous, RetryPolicy, RuntimeMetrics, StagePlugin, StageSpec, TapFate, TapFilter,
    TapRecord, TapSide,
};

struct Fixture {
    runtime: Runtime<MemoryCluster>,
    cluster: MemoryCluster,
    engine: PluginEngine,
}

impl Fixture {
    fn new() -> Self {
        let metrics = RuntimeMetrics::register(&mut Registry::default());
        let handle = tokio::runtime::Handle::current();
        let cluster = MemoryCluster::default();
        let runtime =
            Runtime::new(cluster.clone(), metrics, SystemClock::shared(), Environment::default(), handle);
        let engine = PluginEngine::new(EngineConfig { instances_max: 8, ..EngineConfig::default() });
        Self { runtime, cluster, engine }
    }

    fn spec(&self, version: u32, guest: &[u8]) -> InlineSpec {
        let plugin = StagePlugin {
            name: "plugin".to_owned(),
            plugin: Arc::new(self.engine.load(guest).unwrap()),
            version,
            config: "null".to_owned(),
            limits: PluginLimits { call_timeout_ms: 200, ..PluginLimits::default() },
            grants: Grants::default(),
            previous: None,
        };
        let stage = StageSpec {
            pipeline: "test".to_owned(),
            name: "check".to_owned(),
            position: Position::Ingest,
            runner: None,
            from: vec!["orders".into()],
            plugins: vec![plugin],
            canary: None,
            to: vec!["orders".into()],
            group: String::new(),
            parallelism: 2,
            on_error: OnError::Stop,
            retry: RetryPolicy::default(),
            compression: Compression::None,
        };
        let budget = Duration::from_secs(10);
        InlineSpec { stage, name: "orders".to_owned(), budget, on_failure: OnFailure::Refuse }
    }

    async fn apply(&self, inlines: Vec<InlineSpec>) -> Applied {
        let pipeline = Pipeline { name: "test".to_owned(), topics: Vec::new(), stages: Vec::new(), inlines };
        self.runtime.apply(&pipeline).await
    }

    async fn map(&self, values: &[&str]) -> Result<InlineAnswer, InlineError> {
        self.runtime.inlines("test")[0].map(batch(values)).await
    }
}

fn batch(values: &[&str]) -> InlineBatch {
    let mut builder = BatchBuilder::new(1 << 20).compression(Compression::Zstd);
    for value in values {
        builder.append(1000, None, Some(value.as_bytes()), []).unwrap();
    }
    InlineBatch { topic: "orders".into(), partition: 3, batch: builder.finish().unwrap().into() }
}

/// Offset deltas and the bodies' sizes.
fn kept(answer: InlineAnswer) -> Vec<(i32, usize)> {
    match answer {
        InlineAnswer::Records(records) => {
            records.records.iter().map(|r| (r.offset_delta, records.body(r).len())).collect()
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_batch_is_kept_filtered_or_refused() {
    let fixture = Fixture::new();
    assert_eq!(fixture.apply(vec![fixture.spec(1, &guests::identity())]).await.started, ["check"]);
    assert_eq!(fixture.map(&["a", "b"]).await, Ok(InlineAnswer::Unchanged));
    // Keeps the second record.
    let second = guests::returning(&[0, 4]);
    assert_eq!(fixture.apply(vec![fixture.spec(2, &second)]).await.swapped, ["check"]);
    assert_eq!(kept(fixture.map(&["a", "bc"]).await.unwrap()), [(1, 5)]);
    let none = guests::returning(&[]);
    fixture.apply(vec![fixture.spec(3, &none)]).await;
    assert_eq!(kept(fixture.map(&["a", "b"]).await.unwrap()), []);
    let status = &fixture.runtime.status()[0];
    assert_eq!((status.records_in, status.records_out), (6, 3));
    // Of all versions; of the instances those of the last one, once each thread has swapped.
    let usage = &status.plugins[0].usage;
    assert_eq!((usage.calls, usage.records_in, usage.records_out), (3, 6, 3));
    assert!(usage.instances >= 2 && usage.memory_bytes >= usage.instances * 65_536, "{usage:?}");

    let reject = guests::batch_guest("(call $reject (i32.const 0) (i32.const 0) (i32.const 1))");
    fixture.apply(vec![fixture.spec(4, &reject)]).await;
    let rejected = vec![(1, "because".to_owned())];
    assert_eq!(fixture.map(&["a", "b"]).await, Ok(InlineAnswer::Rejected(rejected)));
    let mut skipping = fixture.spec(4, &reject);
    skipping.stage.on_error = OnError::Skip;
    assert_eq!(fixture.apply(vec![skipping]).await.restarted, ["check"]);
    assert_eq!(kept(fixture.map(&["a", "b"]).await.unwrap()), []);
    assert_eq!(fixture.apply(Vec::new()).await.removed, ["check"]);
    assert!(fixture.runtime.inlines("test").is_empty());
}

/// Those who look at an ingest see what is stored, and that what is refused is refused as a whole.
#[tokio::test]
async fn an_ingest_can_be_tapped() {
    let fixture = Fixture::new();
    // Keeps the second record.
    fixture.apply(vec![fixture.spec(1, &guests::returning(&[0, 4]))]).await;
    let tap = fixture.runtime.tap("test", "check", TapFilter::default()).unwrap();
    let seen = async || -> Vec<(TapSide, i32, i64, Option<TapFate>)> {
        let place = |record: TapRecord| (record.side, record.partition, record.offset, record.fate);
        tap.news().await.records.into_iter().map(place).collect()
    };
    fixture.map(&["a", "b"]).await.unwrap();
    let (dropped, passed) = (Some(TapFate::Dropped), Some(TapFate::Passed));
    let expected = [(TapSide::In, 3, 0, dropped), (TapSide::In, 3, 1, passed), (TapSide::Out, 3, 1, None)];
    assert_eq!(seen().await, expected);

    let reject = guests::batch_guest("(call $reject (i32.const 0) (i32.const 0) (i32.const 1))");
    fixture.apply(vec![fixture.spec(2, &reject)]).await;
    fixture.map(&["a", "b"]).await.unwrap();
    let refused = Some(TapFate::Refused);
    assert_eq!(seen().await, [(TapSide::In, 3, 0, refused), (TapSide::In, 3, 1, refused)]);
}

/// What a reader or a producer counts on: one record stays one, in its place.
#[tokio::test]
async fn answers_that_the_position_does_not_allow_are_errors() {
    let fixture = Fixture::new();
    // Twice the first record; the second before the first; another partition.
    for outputs in [&[0, 2, 0, 0][..], &[0, 4, 0, 1], &[4, 2, 0]] {
        fixture.apply(vec![fixture.spec(1, &guests::returning(outputs))]).await;
        let answered = fixture.map(&["a", "b"]).await;
        assert!(matches!(answered, Err(InlineError::Answer { .. })), "{outputs:?}: {answered:?}");
        fixture.apply(Vec::new()).await;
    }
}

#[tokio::test]
async fn a_batch_that_crashes_its_plugin_fails_alone() {
    let fixture = Fixture::new();
    let trap = "(if (i32.eq (local.get $count) (i32.const 2)) (then unreachable))";
    let guest = guests::batch_guest(&format!("{trap} {}", guests::KEEP_ALL));
    fixture.apply(vec![fixture.spec(1, &guest)]).await;
    for _ in 0..3 {
        let failed = fixture.map(&["a", "b"]).await;
        assert!(
            matches!(failed, Err(InlineError::Plugin { error: PluginError::Trap { .. }, .. })),
            "{failed:?}"
        );
        assert_eq!(fixture.map(&["a"]).await, Ok(InlineAnswer::Unchanged));
    }
    let told = fixture.runtime.status()[0].last_failure.clone().unwrap();
    assert!(told.starts_with("plugin: the plugin trapped"), "{told}");
}

/// What a guest does with a batch that has the byte `!` in it; it keeps all others.
fn at_exclamation(bad: &str) -> Vec<u8> {
    guests::batch_guest(&format!(
        "(local $at i32)
         (block $end (loop $next
           (br_if $end (i32.ge_u (local.get $at) (local.get $len)))
           (if (i32.eq (i32.load8_u (i32.add (local.get $records) (local.get $at))) (i32.const 33)) (then {bad}))
           (local.set $at (i32.add (local.get $at) (i32.const 1)))
           (br $next)))
         {}",
        guests::KEEP_ALL
    ))
}

/// Symptom: one record that a plugin crashes at makes a view unreadable there, or has its batch refused for ever.
#[tokio::test]
async fn records_that_crash_a_plugin_are_left_out_where_they_may_be() {
    let fixture = Fixture::new();
    let mut spec = fixture.spec(1, &at_exclamation("unreachable"));
    spec.stage.on_error = OnError::Skip;
    fixture.apply(vec![spec.clone()]).await;
    let all = ["a", "bb!", "ccc", "dddd", "eeeee!", "!"];
    assert_eq!(kept(fixture.map(&all).await.unwrap()), [(0, 4), (2, 6), (3, 7)]);
    assert_eq!(kept(fixture.map(&["!"]).await.unwrap()), []);
    assert_eq!(fixture.map(&["a"]).await, Ok(InlineAnswer::Unchanged));
    let status = &fixture.runtime.status()[0];
    assert_eq!((status.records_in, status.records_rejected), (8, 4));
    let told = status.last_rejection.clone().unwrap();
    assert!(told.contains("the plugin trapped"), "{told}");
    // Where what fails is stored as it came, it is.
    spec.on_failure = OnFailure::Pass;
    fixture.apply(vec![spec]).await;
    assert!(fixture.map(&all).await.is_err());
}

/// What is left out is in its topic before the producer hears of the rest.
#[tokio::test]
async fn what_an_ingest_rejects_can_be_dead_lettered() {
    let fixture = Fixture::new();
    fixture.cluster.create_topic("orders", 4);
    fixture.cluster.create_topic("dead", 2);
    let mut spec = fixture.spec(7, &at_exclamation("unreachable"));
    spec.stage.on_error = OnError::DeadLetter("dead".into());
    fixture.apply(vec![spec.clone()]).await;
    let letters = || -> Vec<(String, BTreeMap<String, String>)> {
        let mut found = Vec::new();
        // The partition of the record, as far as the topic has it.
        for bytes in fixture.cluster.read("dead", 1) {
            let batch = RecordBatch::new(&bytes).unwrap();
            let section = batch.uncompressed_records(1 << 20).unwrap();
            for record in millstream_record::RecordIter::new(&section) {
                let record = record.unwrap();
                let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
                let header = |header: millstream_record::Header<'_>| {
                    (text(header.key), text(header.value.unwrap_or_default()))
                };
                found.push((text(record.value.unwrap()), record.headers.map(header).collect()));
            }
        }
        found
    };
    assert_eq!(kept(fixture.map(&["a", "bb!", "ccc", "!"]).await.unwrap()), [(0, 4), (2, 6)]);
    let written = letters();
    assert_eq!(written.iter().map(|(value, _)| value.as_str()).collect::<Vec<_>>(), ["bb!", "!"]);
    let headers = &written[0].1;
    let header = |name: &str| headers[&format!("millstream.error.{name}")].as_str();
    assert_eq!((header("topic"), header("partition"), header("offset")), ("orders", "3", "-1"));
    assert!(
        header("reason").contains("trapped") && header("plugin").starts_with("plugin@v7:"),
        "{headers:?}"
    );

    let reject = guests::batch_guest("(call $reject (i32.const 0) (i32.const 0) (i32.const 1))");
    let mut rejecting = fixture.spec(8, &reject);
    rejecting.stage.on_error = spec.stage.on_error.clone();
    fixture.apply(vec![rejecting]).await;
    assert_eq!(kept(fixture.map(&["a", "b"]).await.unwrap()), []);
    assert_eq!(letters()[2].0, "b");
    assert_eq!(letters()[2].1["millstream.error.reason"], "because");

    // Nothing is taken of a batch whose letters are not written; the next one finds another port.
    fixture.cluster.fail_commits([PortError::Unavailable("the disk".to_owned())]);
    let failed = fixture.map(&["a", "b"]).await;
    assert!(
        matches!(&failed, Err(InlineError::Letters(LettersFault::Later(why))) if why.contains("the disk")),
        "{failed:?}"
    );
    assert_eq!(letters().len(), 3);
    assert_eq!(kept(fixture.map(&["a", "b"]).await.unwrap()), []);
    assert_eq!(letters().len(), 4);
    fixture.cluster.hold_commits();
    spec.budget = Duration::from_millis(300);
    fixture.apply(vec![spec.clone()]).await;
    let late = fixture.map(&["!"]).await;
    assert!(matches!(late, Err(InlineError::Late { .. } | InlineError::Letters(_))), "{late:?}");
    fixture.apply(Vec::new()).await;

    spec.stage.on_error = OnError::DeadLetter("absent".into());
    fixture.apply(vec![spec]).await;
    let failed = fixture.map(&["!"]).await;
    assert!(
        matches!(&failed, Err(InlineError::Letters(LettersFault::Later(why))) if why.contains("does not exist")),
        "{failed:?}"
    );
}

/// A record that takes all of a reader's time is found once, and not again by each reader.
#[tokio::test]
async fn what_a_view_crashes_at_is_remembered() {
    let fixture = Fixture::new();
    let mut spec = fixture.spec(1, &at_exclamation("(loop $again (br $again))"));
    (spec.stage.position, spec.stage.on_error) = (Position::View, OnError::Skip);
    spec.budget = Duration::from_millis(300);
    spec.stage.plugins[0].limits.call_timeout_ms = 100;
    fixture.apply(vec![spec]).await;
    let all = ["a", "bb", "ccc", "dddd!", "eeeee", "ffffff"];
    assert!(matches!(fixture.map(&all).await, Err(InlineError::Late { .. })));
    let mut readers = 1;
    let answer = loop {
        readers += 1;
        match fixture.map(&all).await {
            Err(InlineError::Late { .. }) => {}
            answer => break answer.unwrap(),
        }
    };
    assert_eq!(kept(answer), [(0, 4), (1, 5), (2, 6), (4, 8), (5, 9)]);
    assert!(readers < 10, "{readers}");
    let before = fixture.runtime.status()[0].plugins[0].usage.failed_calls;
    assert_eq!(kept(fixture.map(&all).await.unwrap()).len(), 5);
    assert_eq!(fixture.runtime.status()[0].plugins[0].usage.failed_calls, before, "it is not called with it");
}

#[tokio::test]
async fn whoever_asks_waits_for_the_budget_and_no_longer() {
    let fixture = Fixture::new();
    let endless = guests::batch_guest("(loop $again (br $again)) unreachable");
    let mut spec = fixture.spec(1, &endless);
    spec.budget = Duration::from_millis(50);
    fixture.apply(vec![spec]).await;
    // More than there are threads: those that wait are given up, too.
    let mut asked = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let inline = fixture.runtime.inlines("test")[0].clone();
        asked.spawn(async move { inline.map(batch(&["a"])).await });
    }
    for answered in asked.join_all().await {
        assert_eq!(answered, Err(InlineError::Late { budget: Duration::from_millis(50) }));
    }
}

#[tokio::test]
async fn a_version_that_crashes_is_taken_back() {
    let fixture = Fixture::new();
    let mut events = fixture.runtime.events().unwrap();
    let first = fixture.spec(1, &guests::identity());
    fixture.apply(vec![first.clone()]).await;
    let mut second = fixture.spec(2, &guests::batch_guest("unreachable"));
    let previous = Previous::new(first.stage.plugins[0].clone(), i64::MAX);
    second.stage.plugins[0].previous = Some(Box::new(previous));
    let generation = fixture.runtime.inlines("test")[0].generation();
    fixture.apply(vec![second]).await;
    // The batch that it crashes at for the third time is mapped by the version before.
    let mut answers = Vec::new();
    for _ in 0..3 {
        answers.push(fixture.map(&["a"]).await.is_ok());
    }
    assert_eq!(answers.last(), Some(&true), "{answers:?}");
    assert_eq!(events.try_recv().unwrap().rolled_back.to, 1);
    assert_eq!(fixture.runtime.inlines("test")[0].generation(), generation + 2);
}

/// A plugin that has to wait for its share of the processor is late, and is not called for a batch that nobody waits for.
#[tokio::test]
async fn a_plugin_without_a_share_of_the_processor_is_late() {
    let fixture = Fixture::new();
    let mut spec = fixture.spec(1, &guests::busy(1_000_000_000));
    spec.budget = Duration::from_secs(1);
    spec.stage.parallelism = 1;
    spec.stage.plugins[0].limits =
        PluginLimits { call_timeout_ms: 60_000, cpu_percent_max: 1, ..PluginLimits::default() };
    fixture.apply(vec![spec.clone()]).await;
    let usage = || fixture.runtime.status()[0].plugins[0].usage.clone();
    // It may be late already, and works nevertheless.
    let _ = fixture.map(&["a"]).await;
    while usage().calls == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    for _ in 0..2 {
        let late = fixture.map(&["b"]).await.unwrap_err();
        assert_eq!(late, InlineError::Late { budget: spec.budget });
    }
    assert!(usage().calls == 1 && usage().throttled_us > 0, "{:?}", usage());
    // Another version answers at once.
    let mut other = fixture.spec(2, &guests::identity());
    other.budget = spec.budget;
    other.stage.parallelism = 1;
    fixture.apply(vec![other]).await;
    while fixture.map(&["c"]).await != Ok(InlineAnswer::Unchanged) {}
    fixture.runtime.shutdown().await;
}
