//! What the status tells about what plugins take, and their share of the processor.

use super::*;

impl Fixture {
    fn usage(&self) -> UsageStatus {
        self.runtime.status()[0].plugins[0].usage.clone()
    }

    /// A stage whose plugin counts to `turns` for each batch, and may take so many percent of a core.
    fn busy(&self, turns: u32, cpu_percent_max: u32) -> StageSpec {
        let mut stage = self.stage(&[guests::busy(turns)]);
        stage.plugins[0].limits =
            PluginLimits { call_timeout_ms: 60_000, cpu_percent_max, ..PluginLimits::default() };
        stage
    }
}

/// Takes so long that at one percent of a core it is not paid for within any test.
const LONG: u32 = 2_000_000_000;

/// What a plugin took is told apart from its neighbours in the chain, and what its instances hold goes with them.
#[tokio::test]
async fn the_status_tells_what_each_plugin_takes() {
    let fixture = Fixture::new();
    fixture.append(0, &["a", "b"]);
    fixture.append(1, &["c"]);
    // The first lets record 0 of each batch through.
    let first_only = guests::returning(&[0, 2]);
    fixture.apply(vec![fixture.stage(&[first_only, guests::identity()])]).await;
    fixture.until_committed(0, 2).await;
    fixture.until_committed(1, 1).await;
    let usages = |fixture: &Fixture| -> Vec<UsageStatus> {
        fixture.runtime.status()[0].plugins.iter().map(|plugin| plugin.usage.clone()).collect()
    };
    let [first, second] = &usages(&fixture)[..] else { panic!("two plugins") };
    assert_eq!((first.calls, first.records_in, first.records_out), (2, 3, 2));
    assert_eq!((second.calls, second.records_in, second.records_out), (2, 2, 2));
    for usage in [first, second] {
        assert_eq!((usage.failed_calls, usage.instances), (0, 1));
        assert!(usage.memory_bytes >= 65_536, "{usage:?}");
        assert!(
            usage.cpu_us > 0 && usage.call_us_p50 > 0 && usage.call_us_p99 >= usage.call_us_p50,
            "{usage:?}"
        );
    }
    fixture.runtime.shutdown().await;
    for usage in usages(&fixture) {
        assert_eq!((usage.instances, usage.memory_bytes, usage.calls), (0, 0, 2));
    }
}

/// Calls that fail are errors of the stage, and of the plugin.
#[tokio::test]
async fn the_status_counts_errors() {
    let fixture = Fixture::new();
    fixture.append(0, &["a"]);
    fixture.apply(vec![fixture.stage(&[guests::batch_guest("unreachable")])]).await;
    fixture.until_failed().await;
    let status = &fixture.runtime.status()[0];
    let usage = &status.plugins[0].usage;
    assert_eq!(
        (status.errors, usage.calls, usage.failed_calls, usage.records_in),
        (2, 2, 2, 0),
        "{status:?}"
    );
}

/// However busy the machine is with other work: what a plugin has computed is within its share of the time that passed.
#[tokio::test]
async fn a_busy_plugin_takes_its_share_of_a_core() {
    const PERCENT: u32 = 5;
    let fixture = Fixture::new();
    let clock = SystemClock::shared();
    let began = clock.monotonic();
    fixture.apply(vec![fixture.busy(3_000_000, PERCENT)]).await;
    let mut batches = 0;
    while fixture.usage().throttled_us == 0 {
        fixture.append(0, &["a"]);
        batches += 1;
        fixture.until_committed(0, batches).await;
    }
    // Some more, of which each is paid for.
    for _ in 0..20 {
        fixture.append(0, &["a"]);
    }
    fixture.until_committed(0, batches + 20).await;
    let usage = fixture.usage();
    let elapsed_us = u64::try_from((clock.monotonic() - began).as_micros()).unwrap();
    // What a second saves, and the last call, which is paid for afterwards.
    let most = (elapsed_us + 1_000_000) * u64::from(PERCENT) / 100 + usage.cpu_us / usage.calls * 3;
    assert!(usage.cpu_us <= most, "{usage:?}: more than {most} us in {elapsed_us} us");
    assert!(usage.throttled_us <= elapsed_us, "{usage:?}");
    fixture.runtime.shutdown().await;
}

#[tokio::test]
async fn a_plugin_that_waits_for_its_share_is_stopped_and_replaced_at_once() {
    let fixture = Fixture::new();
    fixture.apply(vec![fixture.busy(LONG, 1)]).await;
    ["a", "b", "c"].iter().for_each(|value| fixture.append(0, &[value]));
    fixture.until(|| fixture.usage().throttled_us > 0).await;
    // What it has done is committed before it waits; the rest is not done.
    fixture.until_committed(0, 1).await;
    assert_eq!((fixture.usage().calls, fixture.cluster.read("out", 0).len()), (1, 1));
    fixture.apply(vec![fixture.busy(1, 100)]).await;
    fixture.until_committed(0, 3).await;
    assert_eq!(fixture.usage().calls, 3);

    fixture.append(0, &["d"]);
    fixture.until_committed(0, 4).await;
    // What it owed it still owes: nothing is done before that is paid.
    fixture.apply(vec![fixture.busy(LONG, 1)]).await;
    (0..2).for_each(|_| fixture.append(0, &["e"]));
    let throttled = fixture.usage().throttled_us;
    fixture.until(|| fixture.usage().throttled_us > throttled).await;
    tokio::time::timeout(DEADLINE, fixture.runtime.shutdown())
        .await
        .expect("it does not wait for the plugin");
    assert_eq!(fixture.cluster.committed("test.stage", "in", 0).unwrap().next_offset, 4);
}

/// Each plugin of each stage has its numbers, and they go with it.
#[tokio::test]
async fn series_are_there_as_long_as_what_they_are_about() {
    let fixture = Fixture::new();
    fixture.append(0, &["a", "b"]);
    let stage = fixture.stage(&[guests::returning(&[0, 2]), guests::identity()]);
    let mut failing = fixture.stage(&[guests::batch_guest("unreachable")]);
    (failing.name, failing.group) = ("failing".to_owned(), "failing".to_owned());
    fixture.apply(vec![stage.clone(), failing]).await;
    fixture.until_committed(0, 2).await;
    fixture.until(|| matches!(fixture.runtime.status()[0].state, StageState::Failed(_))).await;
    let text = fixture.metrics();
    let has = |text: &str, name: &str, labels: &str, value: &str| {
        let line = format!("stage_{name}{{pipeline=\"test\",{labels}}} {value}");
        text.lines().any(|found| found.starts_with(&line))
    };
    for (plugin, records_in) in [("plugin0", "2"), ("plugin1", "1")] {
        let labels = format!("stage=\"stage\",plugin=\"{plugin}\"");
        for (name, value) in [
            ("plugin_call_seconds_count", "1"),
            ("plugin_records_in_total", records_in),
            ("plugin_records_out_total", "1"),
            ("plugin_failed_calls_total", "0"),
            ("plugin_cpu_seconds_total", "0.0"),
            ("plugin_throttled_seconds_total", "0.0"),
            ("plugin_memory_bytes", ""),
            ("plugin_instances", "1"),
        ] {
            assert!(has(&text, name, &labels, value), "{name} {labels}: {text}");
        }
    }
    assert!(has(&text, "plugin_failed_calls_total", "stage=\"failing\",plugin=\"plugin0\"", "2"), "{text}");
    assert!(has(&text, "errors_total", "stage=\"failing\",kind=\"trap\"", "2"), "{text}");
    // A stage goes, and another one loses a plugin.
    let shorter = StageSpec { plugins: stage.plugins[..1].to_vec(), ..stage };
    fixture.apply(vec![shorter]).await;
    let text = fixture.metrics();
    assert!(!text.contains("failing") && !text.contains("plugin1") && text.contains("plugin0"), "{text}");
    assert!(has(&text, "plugin_records_in_total", "stage=\"stage\",plugin=\"plugin0\"", "2"), "{text}");
    fixture.runtime.remove("test").await;
    assert!(!fixture.metrics().contains("pipeline="), "{}", fixture.metrics());
}
