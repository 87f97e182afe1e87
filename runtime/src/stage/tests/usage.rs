//! What the status tells about what plugins take.

use super::*;

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
