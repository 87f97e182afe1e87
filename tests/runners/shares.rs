//! Sinks that may take a part of the processor only.

use super::*;

/// It owes most of a minute when it has committed: what it has done does not wait for that.
#[tokio::test]
async fn a_sink_commits_what_it_has_done_and_waits_for_its_share_of_the_processor() {
    let fixture = Fixture::new();
    fixture.append("in", 0, &["a"]);
    fixture.apply(fixture.slow_sink("busy")).await;
    fixture.until_throttled().await;
    assert_eq!((fixture.values("out"), fixture.committed(0)), (vec!["a".to_owned()], Some(1)));
    // Whoever takes over does not wait, and what it has done is not done again.
    let swapped = async {
        fixture.append("in", 0, &["b"]);
        fixture.apply(fixture.sink("copy", OnError::Stop)).await;
        fixture.until_committed(0, 2).await;
    };
    tokio::time::timeout(Duration::from_secs(20), swapped).await.expect("it does not wait for its share");
    assert_eq!(fixture.values("out"), ["a", "b"]);
    // The version before has its debts still.
    let throttled = fixture.status().plugins[0].usage.throttled_us;
    fixture.apply(fixture.slow_sink("busy")).await;
    fixture
        .until("it waits before it does anything", |fixture| {
            fixture.status().plugins[0].usage.throttled_us > throttled
        })
        .await;
    // Not before: the version that ran until then would have done it at once.
    fixture.append("in", 0, &["c"]);
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(fixture.committed(0), Some(2));
    fixture.runtime.shutdown().await;
}

/// Whatever it calls the host for, and even if it calls it for nothing.
#[tokio::test]
async fn a_sink_can_not_get_around_its_share_of_the_processor() {
    for mode in ["spin-and-count", "spin-and-look", "spin-and-nap", "spin-and-retry"] {
        let fixture = Fixture::new();
        fixture.apply(fixture.slow_sink(mode)).await;
        fixture.until_throttled().await;
        // It is no crash to wait for so long.
        tokio::time::sleep(Duration::from_secs(1)).await;
        let status = fixture.status();
        assert!(matches!(status.state, StageState::Running), "{mode}: {status:?}");
        fixture.runtime.shutdown().await;
    }
}
