//! What becomes a plugin and what does not, and that compiled code is kept.

use super::*;
use crate::guests;

fn engine() -> PluginEngine {
    PluginEngine::new(EngineConfig { instances_max: 4, ..EngineConfig::default() })
}

fn check_refused(wasm: &[u8], expect: &str) {
    let error = engine().load(wasm).expect_err("this is no plugin");
    assert!(error.to_string().contains(expect), "{error}");
}

#[test]
fn the_engine_starts_with_the_first_plugin() {
    let engine = engine();
    assert!(engine.load(b"").is_err());
    assert!(!engine.is_started());
    assert_eq!(engine.load(&guests::identity()).unwrap().form(), PluginForm::TransformBatch);
    assert!(engine.is_started());
    assert_eq!(engine.load(&guests::typed_identity()).unwrap().form(), PluginForm::Transform);
}

#[test]
fn a_component_that_exports_neither_form_says_what_it_exports() {
    check_refused(&guests::other_component("(component)"), "it exports nothing");
    let other = r#"(component (component $inner) (instance $inst (instantiate $inner))
        (export "acme:thing/api@1.0.0" (instance $inst)))"#;
    check_refused(&guests::other_component(other), "it exports acme:thing/api@1.0.0");
}

#[test]
fn imports_that_are_not_granted_are_named() {
    let greedy = r#"(component
        (import "wasi:keyvalue/store@0.2.0" (instance))
        (import "wasi:http/outgoing-handler@0.2.0" (instance)))"#;
    let greedy = guests::other_component(greedy);
    check_refused(&greedy, "wasi:keyvalue/store@0.2.0, wasi:http/outgoing-handler@0.2.0");
}

#[test]
fn a_granted_name_with_another_type_does_not_link() {
    let wrong = r#"(component (import "millstream:plugin/log@0.2.0" (instance (export "shout" (func)))))"#;
    // Refused for its exports first; what matters is that it is refused before it runs.
    assert!(engine().load(&guests::other_component(wrong)).is_err());
}

#[test]
fn a_component_that_does_not_parse_is_no_plugin() {
    check_refused(b"\0asm\x0d\0\x01\0\xff\xff\xff", "the plugin is damaged");
    let mut cut = guests::identity();
    cut.truncate(cut.len() / 2);
    check_refused(&cut, "the plugin is damaged");
}

/// A component that exports a transform's name, around this module: what is wrong with it shows when compiling.
fn around(module: &str) -> Vec<u8> {
    guests::other_component(&format!(
        r#"(component (core {module} (component $inner) (instance $inst (instantiate $inner))
            (export "millstream:plugin/transform-batch@0.2.0" (instance $inst)))"#,
        module = module.replacen('(', "", 1)
    ))
}

/// Proposals that are switched off are refused when compiling.
#[test]
fn features_that_plugins_do_not_need_are_off() {
    for module in [
        "(module (memory i64 1))",
        "(module (memory 1) (memory 1))",
        "(module (memory 1 1 shared))",
        "(module (type (struct (field i32))))",
        "(module (tag))",
    ] {
        check_refused(&around(module), "compile the plugin");
    }
}

struct NoCompiler;

impl Compiler for NoCompiler {
    fn compile(
        &self,
        _engine: &wasmtime::Engine,
        _wasm: &[u8],
        _stop: &CancellationToken,
    ) -> Result<Vec<u8>, CompileError> {
        panic!("this must not be compiled")
    }
}

/// Symptom: a component with one function of seven megabytes took gigabytes and minutes to compile, also if it had no
/// exports at all. Cause: the contract was checked on the compiled component. Fix: imports, exports and sizes are read
/// first.
#[test]
fn what_can_be_told_without_compiling_is_told_first() {
    let compiler = Box::new(NoCompiler);
    let engine = PluginEngine::new(EngineConfig { instances_max: 4, compiler, ..EngineConfig::default() });
    let refused = |wasm: &[u8], expect: &str| {
        let error = engine.load(wasm).expect_err("this is no plugin");
        assert!(error.to_string().contains(expect), "{error}");
    };
    refused(&guests::other_component("(component (core module (func)))"), "exports nothing");
    let import = r#"(component (import "wasi:keyvalue/store@0.2.0" (instance)))"#;
    refused(&guests::other_component(import), "not granted: wasi:keyvalue/store@0.2.0");
    // A module inside may export what it likes.
    let inner = r#"(component (component (component $c) (instance $i (instantiate $c))
        (export "millstream:plugin/transform-batch@0.2.0" (instance $i))))"#;
    refused(&guests::other_component(inner), "exports nothing");
    let large = format!("(module (func {}))", "(drop (i32.const 1))".repeat(400_000));
    refused(&around(&large), "has a function of 1200002 bytes");
    assert!(!engine.is_started());
}

#[test]
fn sources_and_sinks_may_call_hosts_and_are_not_called() {
    for (import, is_allowed) in [
        ("wasi:http/types@0.2.12", true),
        ("wasi:http/outgoing-handler@0.2.0", true),
        ("wasi:http/incoming-handler@0.2.0", false),
        ("wasi:http/types@0.3.0", false),
    ] {
        let component = |export: &str| {
            let text = format!(
                r#"(component (import "{import}" (instance)) (component $c) (instance $i (instantiate $c))
                    (export "{export}" (instance $i)))"#
            );
            PluginEngine::check(&guests::other_component(&text))
        };
        assert_eq!(component("millstream:plugin/run@0.2.0").is_ok(), is_allowed, "{import}");
        let refused = component("millstream:plugin/transform-batch@0.2.0").unwrap_err().to_string();
        assert!(refused.contains(import), "{refused}");
    }
}

#[test]
fn compiled_code_is_kept_and_damage_is_noticed() {
    struct Counting(std::sync::Arc<std::sync::atomic::AtomicUsize>);
    impl Compiler for Counting {
        fn compile(
            &self,
            engine: &wasmtime::Engine,
            wasm: &[u8],
            stop: &CancellationToken,
        ) -> Result<Vec<u8>, CompileError> {
            self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            InProcessCompiler.compile(engine, wasm, stop)
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let compiled = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let load = || {
        let compiler = Box::new(Counting(std::sync::Arc::clone(&compiled)));
        let cache_dir = Some(dir.path().join("compiled"));
        PluginEngine::new(EngineConfig {
            cache_dir,
            instances_max: 4,
            cores_max: 1,
            memory_bytes_max: u64::MAX,
            compiler,
        })
        .load(&guests::identity())
        .unwrap();
        compiled.load(std::sync::atomic::Ordering::Relaxed)
    };
    assert_eq!(load(), 1);
    assert_eq!(load(), 1, "the second process finds the code");

    let file = std::fs::read_dir(dir.path().join("compiled")).unwrap().next().unwrap().unwrap().path();
    let mut code = std::fs::read(&file).unwrap();
    let middle = code.len() / 2;
    code[middle] ^= 1;
    std::fs::remove_file(&file).unwrap();
    std::fs::write(&file, &code).unwrap();
    assert_eq!(load(), 2, "damaged code is not used");
    assert_eq!(load(), 2, "and replaced");
}

#[test]
fn code_of_plugins_that_are_gone_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    let cache_dir = Some(dir.path().to_owned());
    let engine = PluginEngine::new(EngineConfig { cache_dir, instances_max: 4, ..EngineConfig::default() });
    let kept = hex(engine.load(&guests::identity()).unwrap().sha256());
    engine.load(&guests::typed_identity()).unwrap();
    std::fs::write(dir.path().join("half-written.tmp"), "code").unwrap();
    engine.forget_others(&BTreeSet::from([kept.clone()]));
    let names = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name());
    let names: Vec<String> = names.map(|name| name.into_string().unwrap()).collect();
    assert_eq!(names.len(), 1, "{names:?}");
    assert!(names[0].starts_with(&kept), "{names:?}");
}
