//! Calls into well-behaved and hostile guests.

use std::sync::Arc;
use std::time::Duration;

use super::log::tests::Lines;
use super::*;
use crate::batch::InputBatch;
use crate::batch::tests::sample;
use crate::clock::SystemClock;
use crate::engine::{Contract, EngineConfig, PluginEngine};
use crate::guests::{self, AGREE, Guest, REFUSE, batch_guest, batch_guest_of, returning};
use crate::limits::PluginLimits;
use crate::outputs::{OutputError, Transformed};

struct Run {
    lines: Arc<Lines>,
    started: Result<Instance, StartError>,
}

async fn start(wasm: &[u8], limits: PluginLimits) -> Run {
    let engine = PluginEngine::new(EngineConfig { instances_max: 4, ..EngineConfig::default() });
    let plugin = engine.load(wasm).unwrap();
    let lines = Arc::new(Lines::default());
    let config = InstanceConfig {
        config: "{}".to_owned(),
        limits,
        log: Arc::clone(&lines) as Arc<dyn PluginLog>,
        clock: SystemClock::shared(),
        names: StageNames::default(),
        lent: Lent::default(),
    };
    Run { lines, started: Instance::start(&plugin, config).await }
}

async fn transform(wasm: &[u8], limits: PluginLimits) -> Result<Transformed, PluginError> {
    let mut instance = start(wasm, limits).await.started.unwrap();
    let mut out = Transformed::default();
    instance.transform(&sample(3), &["out".into()], &mut out).await?;
    Ok(out)
}

async fn check_error(wasm: &[u8], limits: PluginLimits, kind: &str) -> PluginError {
    let error = transform(wasm, limits).await.expect_err("this guest fails");
    assert_eq!(error.kind(), kind, "{error}");
    error
}

#[tokio::test]
async fn both_forms_of_identity_keep_every_record() {
    for wasm in [guests::identity(), guests::typed_identity()] {
        let out = transform(&wasm, PluginLimits::default()).await.unwrap();
        let indices: Vec<u32> = out.outputs.iter().map(|output| output.index).collect();
        assert_eq!(indices, [0, 1, 2]);
        assert!(out.outputs.iter().all(|output| output.body.is_none()));
        assert!(out.rejected.is_empty());
    }
}

/// Built with the SDK of contract 0.1, and never again: what was deployed once must run for ever.
#[tokio::test]
async fn plugins_of_the_first_contract_run() {
    let filter: &[u8] = include_bytes!("../../../tests/contract-0.1/filter.wasm");
    let typed: &[u8] = include_bytes!("../../../tests/contract-0.1/identity_typed.wasm");
    let none = r#"{"header": "h", "equals": "y"}"#;
    for (wasm, form, config, kept) in [
        (filter, PluginForm::TransformBatch, none, &[][..]),
        (typed, PluginForm::Transform, "{}", &[0, 1, 2]),
    ] {
        let engine = PluginEngine::new(EngineConfig { instances_max: 4, ..EngineConfig::default() });
        let plugin = engine.load(wasm).unwrap();
        assert_eq!((plugin.contract(), plugin.form()), (Some(Contract::V0_1), form));
        let config = InstanceConfig {
            config: config.to_owned(),
            limits: PluginLimits::default(),
            log: Arc::new(Lines::default()),
            clock: SystemClock::shared(),
            names: StageNames::default(),
            lent: Lent::default(),
        };
        let mut instance = Instance::start(&plugin, config).await.unwrap();
        let mut out = Transformed::default();
        instance.transform(&sample(3), &["out".into()], &mut out).await.unwrap();
        let indices: Vec<u32> = out.outputs.iter().map(|output| output.index).collect();
        assert_eq!(indices, kept);
    }
}

#[tokio::test]
async fn an_instance_serves_one_batch_after_the_other() {
    let mut instance = start(&guests::identity(), PluginLimits::default()).await.started.unwrap();
    let mut out = Transformed::default();
    for count in [1, 100, 3000, 2] {
        instance.transform(&sample(count), &[], &mut out).await.unwrap();
        assert_eq!(out.outputs.len(), count);
    }
}

#[tokio::test]
async fn a_rejected_record_comes_with_its_reason() {
    let wasm = batch_guest("(call $reject (i32.const 0) (i32.const 0) (i32.const 1))");
    let out = transform(&wasm, PluginLimits::default()).await.unwrap();
    assert_eq!(out.rejected.len(), 1);
    assert_eq!((out.rejected[0].index, out.rejected[0].reason.as_str()), (1, "because"));
    let wasm = batch_guest("(call $reject (i32.const 0) (i32.const 0) (i32.const 3))");
    check_error(&wasm, PluginLimits::default(), "invalid_output").await;
}

#[tokio::test]
async fn a_guest_can_ask_for_a_retry_or_a_stop() {
    let retry =
        check_error(&batch_guest("(call $err (i32.const 0))"), PluginLimits::default(), "retry").await;
    assert_eq!(retry, PluginError::Retry("because".to_owned()));
    let stop = check_error(&batch_guest("(call $err (i32.const 1))"), PluginLimits::default(), "stop").await;
    assert_eq!(stop, PluginError::Stop("because".to_owned()));
}

#[tokio::test]
async fn an_endless_loop_is_interrupted() {
    let limits = PluginLimits { call_timeout_ms: 30, ..PluginLimits::default() };
    check_error(&batch_guest("(loop $again (br $again)) (i32.const 0)"), limits, "timeout").await;
}

#[tokio::test]
async fn an_endless_loop_in_init_is_interrupted() {
    let init = "(func $init (param i32 i32) (result i32) (loop $again (br $again)) (i32.const 0))";
    let wasm = batch_guest_of(&Guest { init, items: "", transform: "unreachable" });
    let limits = PluginLimits { init_timeout_ms: 30, ..PluginLimits::default() };
    let error = start(&wasm, limits).await.started.err().expect("it never answers");
    assert!(matches!(error, StartError::Failed(PluginError::Timeout { .. })), "{error}");
}

#[tokio::test]
async fn a_refused_configuration_says_why() {
    let wasm = batch_guest_of(&Guest { init: REFUSE, items: "", transform: "unreachable" });
    let error = start(&wasm, PluginLimits::default()).await.started.err().expect("it refuses");
    assert_eq!(error, StartError::ConfigRefused { reason: "because".to_owned() });
}

#[tokio::test]
async fn tables_end_at_the_limit() {
    let guest = batch_guest_of(&Guest {
        init: AGREE,
        items: "(table $table 1 funcref)",
        transform: &format!(
            "(if (i32.eq (table.grow $table (ref.null func) (i32.const 4000)) (i32.const -1)) (then unreachable)) {}",
            guests::KEEP_ALL
        ),
    });
    let limited = |table_elements_max| PluginLimits { table_elements_max, ..PluginLimits::default() };
    assert!(transform(&guest, limited(4001)).await.is_ok());
    check_error(&guest, limited(4000), "trap").await;
}

#[tokio::test]
async fn memory_ends_at_the_limit() {
    let grow =
        "(loop $again (br_if $again (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))) unreachable";
    let limits = PluginLimits { memory_bytes_max: 4 << 20, ..PluginLimits::default() };
    check_error(&batch_guest(grow), limits, "memory_limit").await;
}

#[tokio::test]
async fn a_trap_names_the_functions_it_happened_in() {
    let items = "(func $deep (param i32) (result i32) unreachable)";
    let wasm = batch_guest_of(&Guest { init: AGREE, items, transform: "(call $deep (i32.const 0))" });
    let error = check_error(&wasm, PluginLimits::default(), "trap").await;
    let PluginError::Trap { message, backtrace } = error else { panic!("checked above") };
    assert!(message.contains("unreachable"), "{message}");
    assert_eq!(backtrace[0], "deep");
}

#[tokio::test]
async fn recursion_without_end_is_a_trap() {
    let items = "(func $deep (param i32) (result i32) (i32.add (call $deep (local.get 0)) (i32.const 1)))";
    let wasm = batch_guest_of(&Guest { init: AGREE, items, transform: "(call $deep (i32.const 0))" });
    let error = check_error(&wasm, PluginLimits::default(), "trap").await;
    assert!(error.to_string().contains("stack"), "{error}");
}

#[tokio::test]
async fn outputs_that_break_the_rules_are_refused() {
    for outputs in [&[0x20_u8][..], &[0x00, 0x08], &[0x02, 0x02, 0x02, b'x'], &[0x01, 0x02, 0x7e]] {
        let error = check_error(&returning(outputs), PluginLimits::default(), "invalid_output").await;
        assert!(matches!(error, PluginError::InvalidOutput(OutputError::Output { .. })), "{error}");
    }
}

/// 300 bytes that name a large record 100 times.
#[tokio::test]
async fn a_record_that_is_kept_many_times_counts_as_often() {
    let mut packed = vec![0x00, 0x02];
    packed.extend([0x00, 0x00].repeat(99));
    let mut builder = millstream_record::BatchBuilder::new(1 << 20);
    builder.append(0, None, Some(&[b'x'; 10_000]), []).unwrap();
    let input = crate::batch::tests::open(&builder.finish().unwrap().into(), 0).unwrap().unwrap();
    let limits = PluginLimits { output_bytes_max: 500_000, ..PluginLimits::default() };
    let mut instance = start(&returning(&packed), limits).await.started.unwrap();
    let error = instance.transform(&input, &[], &mut Transformed::default()).await.unwrap_err();
    assert_eq!(error, PluginError::InvalidOutput(OutputError::TooLarge { size: 1_000_500, max: 500_000 }));
}

/// A list that lies outside of the guest's memory, or is larger than the host takes.
#[tokio::test]
async fn outputs_that_are_not_there_are_a_trap() {
    check_error(
        &batch_guest("(call $ok (i32.const 0x7fff0000) (i32.const 16))"),
        PluginLimits::default(),
        "trap",
    )
    .await;
    check_error(&batch_guest("(call $ok (i32.const -8) (i32.const 16))"), PluginLimits::default(), "trap")
        .await;
    check_error(&batch_guest("(i32.const -4)"), PluginLimits::default(), "trap").await;
    let huge = "(drop (memory.grow (i32.const 64))) (call $ok (i32.const 0) (i32.const 4000000))";
    let limits = PluginLimits { output_bytes_max: 1024, ..PluginLimits::default() };
    assert!(transform(&batch_guest(huge), limits).await.is_err());
}

#[tokio::test]
async fn after_a_trap_another_instance_of_the_plugin_works() {
    let engine = PluginEngine::new(EngineConfig { instances_max: 2, ..EngineConfig::default() });
    let wasm = batch_guest(
        "(if (i32.eq (local.get $count) (i32.const 2)) (then unreachable)) (call $ok (i32.const 0) (i32.const 0))",
    );
    let plugin = engine.load(&wasm).unwrap();
    let mut out = Transformed::default();
    for _ in 0..5 {
        let config = InstanceConfig {
            config: "null".to_owned(),
            limits: PluginLimits::default(),
            log: Arc::new(Lines::default()),
            clock: SystemClock::shared(),
            names: StageNames::default(),
            lent: Lent::default(),
        };
        let mut instance = Instance::start(&plugin, config).await.unwrap();
        instance.transform(&sample(1), &[], &mut out).await.unwrap();
        assert_eq!(instance.transform(&sample(2), &[], &mut out).await.unwrap_err().kind(), "trap");
    }
}

/// Symptom: a check whose client had gone held its thread until the plugin's time to start was over. Cause: a guest that
/// computes was interrupted by its deadline alone. Fix: while it starts, it yields with every tick.
#[tokio::test]
async fn a_start_that_nobody_waits_for_ends() {
    let init = "(func $init (param i32 i32) (result i32) (loop $forever (br $forever)) (i32.const 16))";
    let endless = batch_guest_of(&Guest { init, items: "", transform: "(unreachable)" });
    let limits = PluginLimits { init_timeout_ms: 30_000, ..PluginLimits::default() };
    let clock = SystemClock::shared();
    let started = tokio::time::timeout(Duration::from_millis(50), start(&endless, limits)).await;
    assert!(started.is_err(), "it starts for ever");
    assert!(clock.monotonic() < Duration::from_secs(20), "{:?}", clock.monotonic());
    let limits = PluginLimits { init_timeout_ms: 50, ..PluginLimits::default() };
    let error = start(&endless, limits).await.started.err().expect("it has no time");
    assert!(matches!(error, StartError::Failed(PluginError::Timeout { .. })), "{error}");
}

#[tokio::test]
async fn instances_are_limited() {
    let engine = PluginEngine::new(EngineConfig { instances_max: 1, ..EngineConfig::default() });
    let plugin = engine.load(&guests::identity()).unwrap();
    let config = || InstanceConfig {
        config: "null".to_owned(),
        limits: PluginLimits::default(),
        log: Arc::new(Lines::default()),
        clock: SystemClock::shared(),
        names: StageNames::default(),
        lent: Lent::default(),
    };
    let first = Instance::start(&plugin, config()).await.unwrap();
    let second = Instance::start(&plugin, config()).await.err().expect("there is room for one");
    assert!(matches!(second, StartError::NoRoom { .. }), "{second}");
    drop(first);
    assert!(Instance::start(&plugin, config()).await.is_ok());
}

#[tokio::test]
async fn lines_of_the_guest_reach_the_log() {
    // `log.log(info, "because")`: the import is flattened to level, pointer and length.
    let items = r#"(import "millstream:plugin/log@0.2.0" "log" (func $log (param i32 i32 i32)))"#;
    let run = {
        // Imports come before everything else in a module.
        let wasm = guests::with_import(
            items,
            "(call $log (i32.const 2) (i32.const 1024) (i32.const 7)) (call $ok (i32.const 0) (i32.const 0))",
        );
        start(&wasm, PluginLimits::default()).await
    };
    let mut instance = run.started.unwrap();
    instance.transform(&sample(1), &[], &mut Transformed::default()).await.unwrap();
    assert_eq!(*run.lines.0.lock().unwrap(), ["Info because"]);
}

/// Symptom: what a plugin said of a record reached the terminal of whoever asked for the stage's status as it was,
/// escape sequences and all. Cause: only log lines were cleaned. Fix: so is every text of a plugin that is kept.
#[tokio::test]
async fn no_text_of_a_plugin_controls_a_terminal() {
    const SAFE: &str = "a\u{fffd}[31m";
    let items = "(data (i32.const 1024) \"a\\1b[31m\\0a\")";
    let guest = |init, transform| batch_guest_of(&Guest { init, items, transform });
    let refusing = guest(REFUSE, "unreachable");
    let refused = start(&refusing, PluginLimits::default()).await.started.err().unwrap();
    assert_eq!(refused, StartError::ConfigRefused { reason: SAFE.to_owned() });
    let stopping = guest(AGREE, "(call $err (i32.const 1))");
    let stop = transform(&stopping, PluginLimits::default()).await.err().unwrap();
    assert_eq!(stop, PluginError::Stop(SAFE.to_owned()));
    let rejecting = guest(AGREE, "(call $reject (i32.const 0) (i32.const 0) (i32.const 0))");
    let out = transform(&rejecting, PluginLimits::default()).await.unwrap();
    assert_eq!(out.rejected[0].reason, SAFE);
}

/// What no guest of that memory has room for is not made for it: the packed form stays what it is.
#[tokio::test]
async fn typed_records_that_can_not_fit_are_not_begun() {
    let mut batch = millstream_record::BatchBuilder::new(usize::MAX);
    let header = millstream_record::Header { key: b"", value: None };
    batch.append(1, None, None, std::iter::repeat_n(header, 200_000)).unwrap();
    let bytes = bytes::Bytes::from(batch.finish().unwrap());
    let batch = millstream_record::RecordBatch::new(&bytes).unwrap();
    let (topic, position) = ("in".into(), crate::batch::Position::Stream);
    let input = InputBatch::open(position, &topic, 0, &batch, &bytes, 0).unwrap().unwrap();
    let limits = PluginLimits { memory_bytes_max: 2 * 1024 * 1024, ..PluginLimits::default() };
    for (wasm, expected) in [(guests::identity(), None), (guests::typed_identity(), Some("memory_limit"))] {
        let mut instance = start(&wasm, limits.clone()).await.started.unwrap();
        let before = instance.memory_bytes();
        let mut out = Transformed::default();
        let mapped = instance.transform(&input, &["out".into()], &mut out).await;
        assert_eq!(mapped.err().map(|error| error.kind()), expected);
        if expected.is_some() {
            assert_eq!(instance.memory_bytes(), before, "it was not called");
        }
    }
}
