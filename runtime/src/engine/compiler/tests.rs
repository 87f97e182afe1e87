//! How a child can end, and what is said about it. The child is a shell here; that the node's own one keeps its limits
//! is shown where there is a node, in `tests/hostile.rs`.

use std::ffi::OsString;
use std::sync::Arc;

use super::*;

fn shell(script: &str) -> ChildCompiler {
    // The environment is empty, so that programs are looked for where they always are.
    let script = format!("PATH=/usr/bin:/bin; {script}");
    ChildCompiler::new("/bin/sh", [OsString::from("-c"), OsString::from(script)])
        .with_limits(Duration::from_secs(60), 1000)
}

fn compile(compiler: &ChildCompiler) -> Result<Vec<u8>, CompileError> {
    compiler.compile(&wasmtime::Engine::default(), b"component", &CancellationToken::new())
}

#[test]
fn the_child_reads_the_component_and_writes_the_code() {
    assert_eq!(compile(&shell("cat; echo ' compiled'")).unwrap(), b"component compiled\n");
}

#[test]
fn each_way_of_failing_is_told_from_the_others() {
    let refused = |message: &str| CompileError::Refused { message: message.to_owned() };
    let cases = [
        ("echo 'no such \x1b[31minstruction' >&2; exit 1", refused("no such  [31minstruction")),
        ("kill -XCPU $$", CompileError::TooSlow { limit: CPU_TIME_MAX }),
        (
            "ulimit -c 0; echo 'memory allocation of 80 bytes failed' >&2; kill -ABRT $$",
            CompileError::TooMuchMemory { limit_bytes: MEMORY_BYTES_MAX },
        ),
        ("cat /dev/zero", CompileError::TooMuchCode { limit_bytes: 1000 }),
    ];
    for (script, expected) in cases {
        assert_eq!(compile(&shell(script)), Err(expected), "{script}");
    }
    for script in ["exit 101", "kill -KILL $$", "exit 1"] {
        assert!(matches!(compile(&shell(script)), Err(CompileError::Process { .. })), "{script}");
    }
    let missing = ChildCompiler::new("/no/such/program", []);
    assert!(matches!(compile(&missing), Err(CompileError::Process { .. })));
}

#[test]
fn a_child_that_takes_too_long_is_killed() {
    for script in ["exec sleep 1000", "exec >&-; exec sleep 1000"] {
        let slow = shell(script).with_limits(Duration::from_millis(200), 1000);
        let limit = Duration::from_millis(200);
        assert_eq!(compile(&slow), Err(CompileError::TooSlow { limit }), "{script}");
    }
}

#[test]
fn a_compilation_that_nobody_waits_for_is_given_up() {
    let compiler = Arc::new(shell("exec sleep 1000"));
    let stop = CancellationToken::new();
    let compile = || {
        let (compiler, stop) = (Arc::clone(&compiler), stop.clone());
        std::thread::spawn(move || compiler.compile(&wasmtime::Engine::default(), b"component", &stop))
    };
    // The one that runs, and the one that waits for its turn.
    let both = [compile(), compile()];
    stop.cancel();
    for one in both {
        assert_eq!(one.join().unwrap(), Err(CompileError::GivenUp));
    }
}
