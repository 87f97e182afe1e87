//! Modules that mean harm, or are broken: each fails cleanly, and nothing of its batch is left.

use tokio_util::task::TaskTracker;

use super::*;
use crate::guests::batch_guest;
use crate::outputs::OutputError;

async fn check_error(wasm: &[u8], kind: &str, expect: &str) {
    let error = transform(wasm).await.expect_err("this module fails");
    assert_eq!(error.kind(), kind, "{error}");
    assert!(error.to_string().contains(expect), "{error}");
}

#[tokio::test]
async fn places_outside_of_its_memory_are_a_trap() {
    // Its memory has 131,072 bytes.
    let header = |place: &str| {
        let zeros = "(i32.const 0) ".repeat(9);
        format!("(drop (call $read_batch_header {zeros} (i32.const {place})))")
    };
    let read = |place: u32, at: u32, length: i32| {
        format!(
            "(drop (call $batch)) (drop (call $read_next_record
               (i32.const 0) (i32.const {place}) (i32.const 8) (i32.const {at}) (i32.const {length})))"
        )
    };
    let write = |at: i32, length: i32| {
        format!(
            "(drop (call $batch)) (drop (call $record)) (drop (call $write_record (i32.const {at}) (i32.const {length})))"
        )
    };
    let write_to = |at: i32, length: i32| {
        format!(
            "(drop (call $batch)) (drop (call $record))
             (drop (call $write_to (i32.const 512) (i32.const 4) (i32.const {at}) (i32.const {length})))"
        )
    };
    let cases = [
        header("-1"),
        header("131069"),
        read(131_065, 1024, 60_000),
        read(0, 131_065, 60_000),
        read(0, u32::MAX, -1),
        write(0, -1),
        write(-1, -1),
        write(131_072, 1),
        write(i32::MAX, i32::MAX),
        write_to(0, -1),
        write_to(-1, 2),
    ];
    for main in cases {
        check_error(&module(&format!("{main} (drop (call $batch))")), "trap", "which are not in its memory")
            .await;
    }
}

/// A length that reaches beyond the memory is a promise, and harmless as long as the record fits.
#[tokio::test]
async fn a_giant_buffer_is_not_believed() {
    let wasm = for_batches(
        "(call $expect (call $read_next_record
           (i32.const 60) (i32.const 64) (i32.const 72) (i32.const 131061) (i32.const -1)) (i32.const 11))",
    );
    assert_eq!(transform(&wasm).await.unwrap().outputs, []);
}

/// Symptom: a guest could run past its deadline. Cause: the host looked at a name of any size before it refused it.
#[tokio::test]
async fn giant_options_are_refused_unseen() {
    // A name of 249 bytes is unknown; one of 253 is not looked at, nor one of 40,000, which is no text.
    let items = r#"(data (i32.const 600) "\01\f2\03") (data (i32.const 2000) "\01\fa\03")
        (data (i32.const 4000) "\01\80\f1\04\ff")"#;
    let long = |at: u32, length: u32, answer: i32| {
        format!(
            "(call $expect (call $write_to (i32.const 512) (i32.const 4) (i32.const {at}) (i32.const {length}))
               (i32.const {answer}))"
        )
    };
    let cases = [long(600, 3 + 249, -3), long(2000, 3 + 253, -2), long(4000, 4 + 40_000, -2)].concat();
    let wasm = module_with(
        items,
        &format!("(loop $batches (drop (call $batch)) (drop (call $record)) {cases} (br $batches))"),
    );
    assert_eq!(transform(&wasm).await.unwrap().outputs, []);
}

#[tokio::test]
async fn too_much_output_stops_it_at_once() {
    let many = for_records("(loop $again (drop (call $value)) (br $again))");
    let limits = PluginLimits { call_timeout_ms: 10_000, ..limits() };
    let outputs_max = limits.outputs_max(3);
    let mut instance = start_limited(&many, limits.clone()).await.unwrap();
    let error = call(&mut instance, 3).await.unwrap_err();
    assert_eq!(error, PluginError::InvalidOutput(OutputError::TooMany { max: outputs_max }));

    // A value of 60,000 bytes, again and again: less than a million outputs can hold.
    let large = module_with(
        r#"(data (i32.const 2000) "\01\c0\a9\07")"#,
        "(drop (call $batch)) (drop (call $record))
         (loop $again (call $expect (call $write_record (i32.const 2000) (i32.const 60005)) (i32.const 60005)) (br $again))",
    );
    let limits = PluginLimits { output_bytes_max: 1 << 20, ..limits };
    let mut instance = start_limited(&large, limits).await.unwrap();
    let error = call(&mut instance, 3).await.unwrap_err();
    let expected = OutputError::TooLarge { size: 18 * 60_005, max: 1 << 20 };
    assert_eq!(error, PluginError::InvalidOutput(expected));
}

/// Waits in a host call for each batch, where the epoch does not count: for ever.
fn sleeping() -> Vec<u8> {
    let forever = r#"(data (i32.const 816) "\01") (data (i32.const 824) "\ff\ff\ff\ff\ff\ff\ff\7f")"#;
    let sleep = "(drop (call $poll (i32.const 800) (i32.const 904) (i32.const 1) (i32.const 960)))";
    module_with(forever, &format!("(drop (call $batch)) {sleep} (drop (call $batch))"))
}

#[tokio::test]
async fn a_batch_that_is_not_put_down_is_a_timeout() {
    let limits = PluginLimits { call_timeout_ms: 50, ..limits() };
    let computes = for_batches("(loop $again (br $again))");
    // Calls the host all the time.
    let reads = for_batches("(loop $again (drop (call $record)) (br $again))");
    for wasm in [computes, sleeping(), reads] {
        let mut instance = start_limited(&wasm, limits.clone()).await.unwrap();
        let error = call(&mut instance, 1).await.unwrap_err();
        assert_eq!(error, PluginError::Timeout { budget: Duration::from_millis(50) });
    }
}

#[tokio::test]
async fn memory_ends_at_the_limit() {
    let wasm = for_batches(
        "(loop $again (br_if $again (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))) unreachable",
    );
    let limits = PluginLimits { memory_bytes_max: 4 << 20, ..limits() };
    let error = call(&mut start_limited(&wasm, limits).await.unwrap(), 1).await.unwrap_err();
    assert_eq!(error, PluginError::MemoryLimit { limit_bytes: 4 << 20 });
    // Not even its first pages.
    let limits = PluginLimits { memory_bytes_max: 64 * 1024, ..self::limits() };
    let error = start_limited(&wasm, limits).await.err().expect("there is no room");
    assert!(matches!(error, StartError::Failed(PluginError::MemoryLimit { .. })), "{error}");
}

#[tokio::test]
async fn a_main_that_ends_is_a_failure() {
    let returned = "its main function has returned, instead of waiting for records";
    check_error(&module("(drop (call $batch))"), "trap", returned).await;
    check_error(&module("(drop (call $batch)) (call $exit (i32.const 0))"), "trap", "exited with status 0")
        .await;
    check_error(&module("(drop (call $batch)) (call $exit (i32.const 200))"), "trap", "invalid exit status")
        .await;
    for (main, expect) in [
        ("", returned),
        ("unreachable", "unreachable"),
        ("(call $exit (i32.const 3))", "exited with status 3"),
    ] {
        let error = start(&module(main)).await.err().expect("it does not start");
        assert!(matches!(error, StartError::Failed(PluginError::Trap { .. })), "{error}");
        assert!(error.to_string().contains(expect), "{error}");
    }
}

#[tokio::test]
async fn a_start_without_end_is_a_timeout() {
    let limits = PluginLimits { init_timeout_ms: 50, ..limits() };
    for main in ["(loop $again (br $again))", "(loop $again (drop (call $record)) (br $again))"] {
        let error = start_limited(&module(main), limits.clone()).await.err().expect("it has no time");
        assert!(matches!(error, StartError::Failed(PluginError::Timeout { .. })), "{error}");
    }
    // Whoever does not want it any more need not wait.
    let endless = module("(loop $again (br $again))");
    let limits = PluginLimits { init_timeout_ms: 30_000, ..limits };
    let started = tokio::time::timeout(Duration::from_millis(50), start_limited(&endless, limits)).await;
    assert!(started.is_err(), "it starts for ever");
}

/// A module can have a function that runs while it is instantiated, when there is nothing to work with.
#[tokio::test]
async fn the_host_is_not_called_before_main() {
    for early in ["(drop (call $batch))", "(drop (call $record))", "(drop (call $value))"] {
        let wasm = module_with(&format!("(func $early {early}) (start $early)"), "(drop (call $batch))");
        let error = start(&wasm).await.err().expect("it does not start");
        assert!(error.to_string().contains("called the host before its main function was run"), "{error}");
    }
    let wasm = module_with("(func $early (loop $again (br $again))) (start $early)", "(drop (call $batch))");
    let limits = PluginLimits { init_timeout_ms: 50, ..limits() };
    let error = start_limited(&wasm, limits).await.err().expect("it has no time");
    assert!(matches!(error, StartError::Failed(PluginError::Timeout { .. })), "{error}");
}

#[tokio::test]
async fn a_stack_ends() {
    let wasm = module_with(
        "(func $deep (param i64) (result i64) (i64.add (call $deep (local.get 0)) (i64.const 1)))",
        "(drop (call $batch)) (drop (call $deep (i64.const 0)))",
    );
    check_error(&wasm, "trap", "call stack exhausted").await;
}

/// Instances hold a stack and a memory while they wait; what has failed, or is dropped, gives them back.
#[tokio::test]
async fn instances_are_limited_and_leave_nothing_behind() {
    let engine = engine(1);
    let (waiting, failing) = (engine.load(&identity()).unwrap(), for_batches("unreachable"));
    let failing = engine.load(&failing).unwrap();
    let config = || config(limits(), &Arc::default());
    let first = Instance::start(&waiting, config()).await.unwrap();
    let second = Instance::start(&waiting, config()).await.err().expect("there is room for one");
    assert!(matches!(second, StartError::NoRoom { .. }), "{second}");
    drop(first);
    for _ in 0..3 {
        let mut failed = Instance::start(&failing, config()).await.unwrap();
        assert_eq!(call(&mut failed, 1).await.unwrap_err().kind(), "trap");
        // Although it is still there.
        let mut next = Instance::start(&waiting, config()).await.unwrap();
        assert_eq!(call(&mut next, 2).await.unwrap().outputs.len(), 2);
    }
}

/// What a call of this instance panics with.
async fn panic_of_a_call(mut instance: Instance) -> String {
    let again = TaskTracker::new().spawn(async move { call(&mut instance, 1).await.is_ok() });
    let panic = again.await.expect_err("an assertion holds it up").into_panic();
    panic.downcast_ref::<&str>().map(|message| (*message).to_owned()).expect("it panics with a text")
}

/// It would put down the batch before as if it were the one that it was given.
#[tokio::test]
async fn a_guest_that_was_left_in_the_middle_is_not_called_again() {
    let mut left = start(&sleeping()).await.unwrap();
    let call_left = tokio::time::timeout(Duration::from_millis(10), call(&mut left, 1)).await;
    assert!(call_left.is_err(), "it sleeps");
    assert_eq!(panic_of_a_call(left).await, "an instance that failed is discarded");
}

#[tokio::test]
async fn a_guest_that_has_failed_is_not_called_again() {
    let component = batch_guest("unreachable");
    for wasm in [component, for_batches("unreachable")] {
        let mut failed = start(&wasm).await.unwrap();
        assert_eq!(call(&mut failed, 1).await.unwrap_err().kind(), "trap");
        assert_eq!(panic_of_a_call(failed).await, "an instance that failed is discarded");
    }
}

/// Symptom: a module could fill the node's log. Cause: wasmtime's functions for sockets write a line for each call, and
/// are told from ours by another number.
#[tokio::test]
async fn there_are_no_sockets_and_nobody_speaks_of_it() {
    let imports = r#"
        (import "wasi_snapshot_preview1" "sock_accept" (func $accept (param i32 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "sock_recv" (func $recv (param i32 i32 i32 i32 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "sock_send" (func $send (param i32 i32 i32 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "sock_shutdown" (func $shutdown (param i32 i32) (result i32)))"#;
    let calls: String = [("accept", 3), ("recv", 6), ("send", 5), ("shutdown", 2)]
        .iter()
        .map(|(name, count)| {
            format!("(call $expect (call ${name} {}) (i32.const 58))", "(i32.const 1)".repeat(*count))
        })
        .collect();
    let text = format!(
        r#"(module {imports} {PRELUDE}
             (func (export "_start") (loop $batches (drop (call $batch)) {calls} (br $batches))))"#
    );
    let wasm = wat::parse_str(text).unwrap();
    assert_eq!(transform(&wasm).await.unwrap().outputs, []);
}
