//! Which modules are taken, before and when they are linked, and how they are configured.

use super::*;
use crate::engine::{LoadError, PluginForm, RedpandaError};

fn load(text: &str) -> Result<PluginForm, LoadError> {
    let wasm = wat::parse_str(text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    engine(4).load(&wasm).map(|plugin| plugin.form())
}

fn check_refused(text: &str, expect: &str) {
    let error = load(text).expect_err("this is no plugin");
    assert!(error.to_string().contains(expect), "{error}");
}

/// The least that is a module of the ABI.
fn with(imports: &str, exports: &str) -> String {
    format!("(module {imports} {exports})")
}

const VERSION_2: &str = r#"(import "redpanda_transform" "check_abi_version_2" (func))"#;
const EXPORTS: &str = r#"(memory (export "memory") 1) (func (export "_start"))"#;

#[test]
fn both_versions_of_the_abi_are_known() {
    for version in [1, 2] {
        let import = format!(r#"(import "redpanda_transform" "check_abi_version_{version}" (func))"#);
        assert_eq!(load(&with(&import, EXPORTS)).unwrap(), PluginForm::RedpandaTransform);
    }
}

#[test]
fn another_version_is_refused_by_name() {
    let import = r#"(import "redpanda_transform" "check_abi_version_3" (func))
        (import "redpanda_transform" "read_batch_metadata" (func (param i32 i32 i32) (result i32)))"#;
    check_refused(
        &with(import, EXPORTS),
        "imports check_abi_version_3 of Redpanda's ABI, of which this node knows check_abi_version_1 and check_abi_version_2",
    );
    let none = r#"(import "redpanda_transform" "write_record" (func (param i32 i32) (result i32)))"#;
    check_refused(&with(none, EXPORTS), "imports no version of Redpanda's ABI");
}

#[test]
fn other_core_modules_are_no_plugins() {
    check_refused("(module)", "core WebAssembly module, not a component");
    let wasi = r#"(import "wasi_snapshot_preview1" "sched_yield" (func (result i32)))"#;
    check_refused(&with(wasi, EXPORTS), "core WebAssembly module, not a component");
}

#[test]
fn what_a_module_must_export_is_named() {
    check_refused(&with(VERSION_2, r#"(memory (export "memory") 1)"#), r#"has no export "_start""#);
    check_refused(&with(VERSION_2, r#"(func (export "_start"))"#), r#"has no export "memory""#);
    let taking = r#"(memory (export "memory") 1) (func (export "_start") (param i32))"#;
    check_refused(&with(VERSION_2, taking), "takes or returns something");
    let memory = r#"(memory (export "memory") 1) (global (export "_start") i32 (i32.const 0))"#;
    check_refused(&with(VERSION_2, memory), r#""_start" is not a function"#);
    let function = r#"(func (export "memory")) (func (export "_start"))"#;
    check_refused(&with(VERSION_2, function), r#""memory" is not a memory"#);
}

#[test]
fn imports_that_are_not_granted_are_named() {
    let foreign =
        format!(r#"{VERSION_2} (import "env" "now" (func)) (import "wasi_unstable" "fd_write" (func))"#);
    check_refused(&with(&foreign, EXPORTS), "not granted: env.now, wasi_unstable.fd_write");
    let unknown = format!(r#"{VERSION_2} (import "redpanda_transform" "delete_topic" (func))"#);
    check_refused(&with(&unknown, EXPORTS), "not granted: redpanda_transform.delete_topic");
    let ai = format!(r#"{VERSION_2} (import "redpanda_ai" "load_hf_llm" (func))"#);
    check_refused(&with(&ai, EXPORTS), "not granted: redpanda_ai.load_hf_llm");
    let memory = format!(r#"{VERSION_2} (import "env" "memory" (memory 1))"#);
    let exports = r#"(export "memory" (memory 0)) (func (export "_start"))"#;
    check_refused(&with(&memory, exports), "not granted: env.memory");
}

#[test]
fn imports_of_another_type_do_not_link() {
    for import in [
        r#"(import "redpanda_transform" "write_record" (func (param i64 i32) (result i32)))"#,
        r#"(import "redpanda_transform" "read_batch_header" (func (result i32)))"#,
        r#"(import "redpanda_schema_registry" "delete_subject" (func))"#,
        r#"(import "wasi_snapshot_preview1" "no_such_function" (func))"#,
        r#"(import "redpanda_transform" "read_next_record" (global i32))"#,
    ] {
        let error = load(&with(&format!("{VERSION_2} {import}"), EXPORTS)).unwrap_err();
        assert!(matches!(error, LoadError::Redpanda(RedpandaError::Mismatch { .. })), "{error}");
    }
}

/// What rustc makes for wasm32-wasip1 needs the first of these, nobody the others.
#[test]
fn features_are_those_that_compilers_use() {
    let body = |body: &str| format!(r#"(module {VERSION_2} {EXPORTS} (table 1 externref) {body})"#);
    for used in [
        "(func (memory.fill (i32.const 0) (i32.const 0) (i32.const 1)))",
        "(func (drop (i32.extend8_s (i32.const 1))))",
        "(func (result i32 i64) (i32.const 1) (i64.const 2))",
        "(func (drop (i32.trunc_sat_f32_s (f32.const 1))))",
        "(func (drop (i8x16.splat (i32.const 1))))",
        "(global (export \"g\") (mut i32) (i32.const 0))",
    ] {
        assert_eq!(load(&body(used)).unwrap(), PluginForm::RedpandaTransform, "{used}");
    }
    for unused in [
        "(memory 1 1 shared)",
        "(memory i64 1)",
        "(tag)",
        "(type (struct (field i32)))",
        "(func (drop (i32.atomic.load (i32.const 0))))",
    ] {
        let error = load(&body(unused)).unwrap_err();
        assert!(matches!(error, LoadError::Compile(_)), "{unused}: {error}");
    }
    let shared = r#"(memory (export "memory") 1 1 shared) (func (export "_start"))"#;
    assert!(matches!(load(&with(VERSION_2, shared)), Err(LoadError::Compile(_))));
}

/// A module that only has a client must run; one that asks gets the answer of a broker without a registry.
#[tokio::test]
async fn the_schema_registry_is_one_that_is_not_enabled() {
    let registry = r#"
        (import "redpanda_schema_registry" "check_abi_version_0" (func $check_registry))
        (import "redpanda_schema_registry" "get_schema_definition_len" (func $a (param i32 i32) (result i32)))
        (import "redpanda_schema_registry" "get_schema_definition" (func $b (param i32 i32 i32) (result i32)))
        (import "redpanda_schema_registry" "get_subject_schema_len" (func $c (param i32 i32 i32 i32) (result i32)))
        (import "redpanda_schema_registry" "get_subject_schema" (func $d (param i32 i32 i32 i32 i32) (result i32)))
        (import "redpanda_schema_registry" "create_subject_schema" (func $e (param i32 i32 i32 i32 i32) (result i32)))"#;
    // Imports come first.
    let module = |main: &str| {
        let text = format!("(module {registry} {} (func (export \"_start\") {main}))", PRELUDE);
        wat::parse_str(text).unwrap()
    };
    let idle =
        module("(call $check_abi) (call $check_registry) (loop $batches (drop (call $batch)) (br $batches))");
    assert!(transform(&idle).await.is_ok());
    let zeros = |count| "(i32.const 0)".repeat(count);
    let calls: String = [("a", 2), ("b", 3), ("c", 4), ("d", 5), ("e", 5)]
        .iter()
        .map(|(name, count)| format!("(call $expect (call ${name} {}) (i32.const -1))", zeros(*count)))
        .collect();
    let asking = module(&format!("(drop (call $batch)) {calls} unreachable"));
    let lines = Arc::<Lines>::default();
    let plugin = engine(4).load(&asking).unwrap();
    let mut instance = Instance::start(&plugin, config(limits(), &lines)).await.unwrap();
    let error = call(&mut instance, 1).await.unwrap_err().to_string();
    assert!(
        error.contains("create_subject_schema was called, and this node has no schema registry"),
        "{error}"
    );
    let warned = "Warn get_subject_schema of Redpanda's schema registry was called: this node has none";
    assert!(lines.0.lock().unwrap().iter().any(|line| line == warned));
}

#[tokio::test]
async fn a_configuration_that_is_no_environment_is_refused() {
    let plugin = engine(4).load(&identity()).unwrap();
    let nested = r#"{"LIMITS": {"low": 1}}"#.to_owned();
    let config = InstanceConfig { config: nested, ..config(limits(), &Arc::default()) };
    let error = Instance::start(&plugin, config).await.err().expect("it is refused");
    assert!(matches!(error, StartError::ConfigRefused { .. }), "{error}");
    assert!(error.to_string().contains("configured with environment variables"), "{error}");
}

/// Compiled code of a module is kept like that of a component.
#[test]
fn modules_are_compiled_once() {
    struct Never;
    impl crate::engine::Compiler for Never {
        fn compile(
            &self,
            _: &wasmtime::Engine,
            _: &[u8],
            _: &tokio_util::sync::CancellationToken,
        ) -> Result<Vec<u8>, crate::engine::CompileError> {
            panic!("it is in the cache")
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let config = || EngineConfig {
        cache_dir: Some(dir.path().to_owned()),
        instances_max: 4,
        ..EngineConfig::default()
    };
    PluginEngine::new(config()).load(&identity()).unwrap();
    let plugin = PluginEngine::new(EngineConfig { compiler: Box::new(Never), ..config() }).load(&identity());
    assert_eq!(plugin.unwrap().form(), PluginForm::RedpandaTransform);
}
