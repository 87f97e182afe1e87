//! What passes a stage, as those see it who look.

use super::*;

impl Fixture {
    fn tap(&self, filter: TapFilter) -> Tap {
        self.runtime.tap("test", "stage", filter).expect("the stage runs")
    }
}

/// Side, place, fate and value of records, until there are that many.
async fn seen(tap: &Tap, count: usize) -> Vec<String> {
    let mut seen = Vec::new();
    while seen.len() < count {
        let news = tokio::time::timeout(DEADLINE, tap.news()).await.expect("records pass");
        assert_eq!((news.missed, news.over), (0, false));
        for TapRecord { side, topic, partition, offset, fate, outputs, value, .. } in news.records {
            let value = String::from_utf8(value.unwrap()).unwrap();
            seen.push(format!("{side:?} {topic}-{partition} {offset} {fate:?} {outputs} {value}"));
        }
    }
    seen
}

#[tokio::test]
async fn a_tap_shows_what_comes_in_and_what_goes_out() {
    let fixture = Fixture::new();
    // Of each batch record 0 is kept, record 1 rejected, record 2 dropped.
    let guest = guests::batch_guest(
        "(call $reject (i32.const 2048) (i32.const 2) (i32.const 1))
         (i32.store8 (i32.const 2048) (i32.const 0)) (i32.store8 (i32.const 2049) (i32.const 2))",
    );
    let stage = StageSpec { on_error: OnError::DeadLetter("dead".into()), ..fixture.stage(&[guest]) };
    fixture.apply(vec![stage]).await;
    let both = fixture.tap(TapFilter::default());
    let dead = fixture.tap(TapFilter { fate: Some(TapFate::DeadLettered), ..TapFilter::default() });
    let out = fixture.tap(TapFilter {
        side: Some(TapSide::Out),
        value_contains: Some("a".to_owned()),
        ..TapFilter::default()
    });
    fixture.append(1, &["a", "b", "c"]);
    let expected = [
        "In in-1 0 Some(Passed) 1 a",
        "Out out-1 0 None 0 a",
        "In in-1 1 Some(DeadLettered) 0 b",
        "In in-1 2 Some(Dropped) 0 c",
    ];
    assert_eq!(seen(&both, 4).await, expected);
    assert_eq!(seen(&dead, 1).await, expected[2..3]);
    assert_eq!(seen(&out, 1).await, expected[1..2]);
    // Nobody looks any more, and then the stage is gone.
    drop((dead, out));
    fixture.append(1, &["d"]);
    assert_eq!(seen(&both, 1).await[0], "In in-1 3 Some(DeadLettered) 0 d");
    fixture.apply(Vec::new()).await;
    assert!(both.news().await.over);
}

/// Of a batch that is larger than a tap both sides are seen, and what is not looked for takes no room.
#[tokio::test]
async fn a_large_batch_shows_what_is_looked_for() {
    let fixture = Fixture::new();
    fixture.apply(vec![fixture.stage(&[guests::identity()])]).await;
    let both = fixture.tap(TapFilter::default());
    let last = fixture.tap(TapFilter { value_contains: Some("last".to_owned()), ..TapFilter::default() });
    let mut values = vec!["x"; 1499];
    values.push("the last one");
    fixture.append(0, &values);
    fixture.until_committed(0, 1500).await;
    let news = both.news().await;
    let outputs = news.records.iter().filter(|record| record.side == TapSide::Out).count();
    assert_eq!((news.records.len(), outputs, news.missed), (1000, 500, 2000));
    let expected = ["In in-0 1499 Some(Passed) 1 the last one", "Out out-0 1499 None 0 the last one"];
    assert_eq!(seen(&last, 2).await, expected, "and nothing is missed");
    fixture.runtime.shutdown().await;
}

/// A tap that nobody reads costs its stage nothing but the counting.
#[tokio::test]
async fn what_does_not_fit_a_tap_is_counted() {
    let fixture = Fixture::new();
    fixture.apply(vec![fixture.stage(&[guests::identity()])]).await;
    let taps: Vec<Tap> =
        (0..4).map(|_| fixture.tap(TapFilter { side: Some(TapSide::In), ..TapFilter::default() })).collect();
    let refused = fixture.runtime.tap("test", "stage", TapFilter::default());
    assert!(matches!(refused, Err(TapError::TooMany)));
    let unknown = fixture.runtime.tap("test", "other", TapFilter::default());
    assert!(matches!(unknown, Err(TapError::NoStage { .. })));
    let values: Vec<String> = (0..1500).map(|at| at.to_string()).collect();
    fixture.append(0, &values.iter().map(String::as_str).collect::<Vec<_>>());
    fixture.until_committed(0, 1500).await;
    let news = taps[0].news().await;
    assert_eq!((news.records.len(), news.missed), (1000, 500));
    // There is room again.
    fixture.append(0, &["more"]);
    assert_eq!(seen(&taps[0], 1).await, ["In in-0 1500 Some(Passed) 1 more"]);
    // Long values are cut, and many of them are bounded by their bytes.
    let long = "x".repeat(100_000);
    fixture.append(0, &[&long]);
    let news = taps[0].news().await;
    let record = &news.records[0];
    assert!(record.cut && record.value.as_ref().is_some_and(|value| value.len() == 16 * 1024));
    fixture.runtime.shutdown().await;
}
