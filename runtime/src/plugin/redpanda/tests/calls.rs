//! What a module sees of a batch, what it may write, and how long that may take.

use super::*;

#[tokio::test]
async fn records_come_and_go_as_they_are_encoded() {
    let mut instance = start(&identity()).await.unwrap();
    for count in [3, 1, 500, 2] {
        let out = call(&mut instance, count).await.unwrap();
        let input = sample(count);
        let expected = input.records.iter().map(|record| input.body(record));
        assert!(outputs(&out).iter().map(|(.., body)| *body).eq(expected));
        assert!(outputs(&out).iter().map(|(index, ..)| *index as usize).eq(0..count));
        assert!(out.outputs.iter().all(|output| output.topic.is_none() && output.timestamp.is_none()));
        assert!(out.rejected.is_empty());
    }
}

/// `sample(3)`: offsets from 100, timestamps from 1000, bodies of 11 bytes.
#[tokio::test]
async fn a_header_says_what_a_module_may_know() {
    let wasm = module(
        "(loop $batches
           (call $expect (call $batch) (i32.const 11))
           (call $expect_long (i64.load (i32.const 0)) (i64.const 100))
           (call $expect (i32.load (i32.const 8)) (i32.const 3))
           (call $expect (i32.load (i32.const 12)) (i32.const -1))
           (call $expect (i32.load16_s (i32.const 16)) (i32.const 0))
           (call $expect (i32.load (i32.const 20)) (i32.const 2))
           (call $expect_long (i64.load (i32.const 24)) (i64.const 1000))
           (call $expect_long (i64.load (i32.const 32)) (i64.const 1002))
           (call $expect_long (i64.load (i32.const 40)) (i64.const -1))
           (call $expect (i32.load16_s (i32.const 48)) (i32.const -1))
           (call $expect (i32.load (i32.const 52)) (i32.const -1))
           (call $expect (call $record) (i32.const 11))
           (call $expect (call $record) (i32.const 11))
           (call $expect (i32.load8_u (i32.const 60)) (i32.const 0))
           (call $expect_long (i64.load (i32.const 64)) (i64.const 1001))
           (call $expect_long (i64.load (i32.const 72)) (i64.const 101))
           (drop (call $value))
           (br $batches))",
    );
    let out = transform(&wasm).await.unwrap();
    assert_eq!(outputs(&out), [(1, None, &b"\x01\x02v\x00"[..])]);
}

#[tokio::test]
async fn append_time_is_in_the_attributes() {
    let wasm = for_batches("(call $expect (i32.load16_s (i32.const 16)) (i32.const 8))");
    let mut instance = start(&wasm).await.unwrap();
    let input = crate::batch::InputBatch { append_time: Some(1000), ..sample(1) };
    instance.transform(&input, &[], &mut Transformed::default()).await.unwrap();
}

#[tokio::test]
async fn a_record_can_become_none_several_and_go_elsewhere() {
    // Of record 1 two, the second to another topic; of record 2 one without a value; of record 0 none.
    let wasm = for_batches(
        "(drop (call $record)) (drop (call $record))
         (call $expect (call $value) (i32.const 4))
         (call $expect (call $write_to (i32.const 512) (i32.const 4) (i32.const 528) (i32.const 7)) (i32.const 4))
         (drop (call $record))
         (call $expect (call $write_to (i32.const 520) (i32.const 4) (i32.const 0) (i32.const 0)) (i32.const 4))",
    );
    let out = transform(&wasm).await.unwrap();
    let (value, no_value) = (&b"\x01\x02v\x00"[..], &b"\x02k\x01\x00"[..]);
    assert_eq!(outputs(&out), [(1, None, value), (1, Some(1), value), (2, None, no_value)]);
}

/// What the SDK for another language may do: leave the rest of a batch.
#[tokio::test]
async fn records_that_are_not_read_have_no_outputs() {
    let wasm = for_batches("(drop (call $record)) (drop (call $value))");
    let mut instance = start(&wasm).await.unwrap();
    for _ in 0..3 {
        assert_eq!(call(&mut instance, 3).await.unwrap().outputs.len(), 1);
    }
}

#[tokio::test]
async fn what_a_module_does_wrong_has_a_number() {
    let lines = Arc::<Lines>::default();
    let wasm = module_with(
        r#"(data (i32.const 600) "\01\02v\02") (data (i32.const 610) "\01\0aelse!") (data (i32.const 620) "\02\00")
           (data (i32.const 630) "\01\0aot") (data (i32.const 640) "\01\04\ff\ff")"#,
        "(call $expect (call $record) (i32.const -1))
         (call $expect (call $value) (i32.const -1))
         (loop $batches
           (drop (call $batch))
           ;; No record was read yet.
           (call $expect (call $value) (i32.const -1))
           ;; The buffer is too small; the record can still be read.
           (call $expect (call $read_next_record
             (i32.const 60) (i32.const 64) (i32.const 72) (i32.const 1024) (i32.const 10)) (i32.const -2))
           (call $expect (call $record) (i32.const 11))
           ;; A header is announced that is not there; nothing at all; more than the record.
           (call $expect (call $write_record (i32.const 600) (i32.const 4)) (i32.const -2))
           (call $expect (call $write_record (i32.const 512) (i32.const 0)) (i32.const -2))
           (call $expect (call $write_record (i32.const 512) (i32.const 5)) (i32.const -2))
           ;; A topic that is not the stage's; an unknown option; a name that is cut, too short, or no text.
           (call $expect (call $write_to (i32.const 512) (i32.const 4) (i32.const 610) (i32.const 7)) (i32.const -3))
           (call $expect (call $write_to (i32.const 512) (i32.const 4) (i32.const 620) (i32.const 2)) (i32.const -2))
           (call $expect (call $write_to (i32.const 512) (i32.const 4) (i32.const 630) (i32.const 4)) (i32.const -2))
           (call $expect (call $write_to (i32.const 512) (i32.const 4) (i32.const 528) (i32.const 8)) (i32.const -2))
           (call $expect (call $write_to (i32.const 512) (i32.const 4) (i32.const 640) (i32.const 4)) (i32.const -3))
           (call $expect (call $value) (i32.const 4))
           ;; Behind the last record.
           (drop (call $record)) (drop (call $record))
           (call $expect (call $record) (i32.const -1))
           (br $batches))",
    );
    let plugin = engine(4).load(&wasm).unwrap();
    let mut instance = Instance::start(&plugin, config(limits(), &lines)).await.unwrap();
    assert_eq!(outputs(&call(&mut instance, 3).await.unwrap()), [(0, None, &b"\x01\x02v\x00"[..])]);
    let lines = lines.0.lock().unwrap();
    let unknown = r#"Warn a record was not written: topic "else!" is not one of the stage's output topics"#;
    for expected in [unknown, "Warn a record was written before one was read"] {
        assert!(lines.iter().any(|line| line == expected), "{lines:?}");
    }
}

#[tokio::test]
async fn lines_of_a_module_reach_the_log() {
    let lines = Arc::<Lines>::default();
    let wasm = module_with(
        r#"(data (i32.const 700) "hello\nwo") (data (i32.const 720) "\bc\02\00\00\08\00\00\00")
           (func $early (drop (call $fd_write (i32.const 1) (i32.const 720) (i32.const 1) (i32.const 760))))
           (start $early)"#,
        "(drop (call $fd_write (i32.const 2) (i32.const 720) (i32.const 1) (i32.const 760)))
         (drop (call $batch)) unreachable",
    );
    let plugin = engine(4).load(&wasm).unwrap();
    let mut instance = Instance::start(&plugin, config(limits(), &lines)).await.unwrap();
    assert_eq!(*lines.0.lock().unwrap(), ["Info hello", "Warn hello"]);
    let error = call(&mut instance, 1).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "the plugin trapped: wasm trap: wasm `unreachable` instruction executed (wo)"
    );
}

/// Symptom: a crash was called the memory limit's, or the schema registry's, which it had come up against many batches
/// before.
#[tokio::test]
async fn what_went_wrong_before_a_batch_is_not_why_it_fails() {
    let registry = r#"(import "redpanda_schema_registry" "get_schema_definition_len"
        (func $registry (param i32 i32) (result i32)))"#;
    let text = format!(
        r#"(module {registry} {PRELUDE}
             (data (i32.const 700) "hello\n") (data (i32.const 720) "\bc\02\00\00\06\00\00\00")
             (func (export "_start")
               (drop (call $batch))
               (call $expect (memory.grow (i32.const 60000)) (i32.const -1))
               (call $expect (call $registry (i32.const 0) (i32.const 0)) (i32.const -1))
               (drop (call $fd_write (i32.const 2) (i32.const 720) (i32.const 1) (i32.const 760)))
               (drop (call $batch))
               unreachable))"#
    );
    let mut instance = start(&wat::parse_str(text).unwrap()).await.unwrap();
    call(&mut instance, 1).await.unwrap();
    let error = call(&mut instance, 1).await.unwrap_err();
    assert_eq!(error.to_string(), "the plugin trapped: wasm trap: wasm `unreachable` instruction executed");
}

/// Symptom: a module that printed more than 1 MiB panicked. Cause: WASI's function failed, because of a limit for what it
/// allocates, where it can write a part. The SDK's modules write the rest with the next call.
#[tokio::test]
async fn large_prints_are_taken_in_parts() {
    let lines = Arc::<Lines>::default();
    // An empty buffer and one of 2 MiB, which begins with "large" and a line's end; and an empty one alone. The buffers
    // that are asked for last are not in the memory.
    let wasm = module_with(
        r#"(data (i32.const 700) "\00\00\00\00\00\00\00\00\00\00\02\00\00\00\20\00")
           (data (i32.const 131056) "\00\00\02\00\00\00\00\00")"#,
        r#"(drop (memory.grow (i32.const 32)))
           (i64.store (i32.const 131072) (i64.const 0x0a656772616c))
           (call $expect (call $fd_write (i32.const 1) (i32.const 700) (i32.const 2) (i32.const 760)) (i32.const 0))
           (call $expect (i32.load (i32.const 760)) (i32.const 16384))
           (call $expect (call $fd_write (i32.const 2) (i32.const 131056) (i32.const 1) (i32.const 760)) (i32.const 0))
           (call $expect (i32.load (i32.const 760)) (i32.const 0))
           (call $expect (call $fd_write (i32.const 0) (i32.const 700) (i32.const 2) (i32.const 760)) (i32.const 8))
           (call $expect (call $fd_write (i32.const 3) (i32.const 700) (i32.const 2) (i32.const 760)) (i32.const 8))
           (drop (call $batch))
           (drop (call $fd_write (i32.const 1) (i32.const -8) (i32.const -1) (i32.const 760)))"#,
    );
    let plugin = engine(4).load(&wasm).unwrap();
    let mut instance = Instance::start(&plugin, config(limits(), &lines)).await.unwrap();
    assert_eq!(*lines.0.lock().unwrap(), ["Info large"]);
    let error = call(&mut instance, 1).await.unwrap_err().to_string();
    assert!(error.contains("which are not in its memory"), "{error}");
}

/// Each batch takes more than half of the time that one may take.
#[tokio::test]
async fn every_batch_has_its_own_time() {
    // A subscription to the monotonic clock, in 600 ms from now on.
    let sleep = r#"(data (i32.const 816) "\01") (data (i32.const 824) "\00\46\c3\23")
        (func $sleep (call $expect (call $poll (i32.const 800) (i32.const 904) (i32.const 1) (i32.const 960)) (i32.const 0)))"#;
    let wasm = module_with(sleep, "(loop $batches (drop (call $batch)) (call $sleep) (br $batches))");
    let mut instance = start(&wasm).await.unwrap();
    for _ in 0..2 {
        call(&mut instance, 1).await.unwrap();
        // What a guest waits for us is not its time.
        tokio::time::sleep(Duration::from_millis(1100)).await;
        call(&mut instance, 1).await.unwrap();
    }
}

/// As instances are that are started for a task before it takes them over.
#[test]
fn an_instance_moves_to_another_thread() {
    let run = || tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let plugin = engine(4).load(&identity()).unwrap();
    let mut instance = run().block_on(Instance::start(&plugin, config(limits(), &Arc::default()))).unwrap();
    for _ in 0..3 {
        let moved = std::thread::spawn(move || {
            let out = run().block_on(call(&mut instance, 3)).unwrap();
            assert_eq!(out.outputs.len(), 3);
            instance
        });
        instance = moved.join().unwrap();
    }
}
