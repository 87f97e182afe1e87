//! The child's side: limits itself, compiles what it reads, and writes the code.

use std::io::{self, Read, Write};

use rustix::process::{Resource, Rlimit, Signal, set_parent_process_death_signal, setrlimit};

use super::{CPU_TIME_MAX, MEMORY_BYTES_MAX};
use crate::engine::config;
use crate::limits::COMPONENT_BYTES_MAX;

/// How far it stands back behind the node's own threads, to which it leaves three quarters of a core that both want.
const NICE: i32 = 5;

/// Reads a component from `input` to its end and writes its machine code to `output`. The error is what the parent
/// shows. Only for a process that does nothing else: the limits are the process's own, and it dies of some of them.
pub fn compile_in_child(input: impl Read, mut output: impl Write) -> Result<(), String> {
    limit_process().map_err(|error| format!("limit the process: {error}"))?;
    let mut wasm = Vec::new();
    let read = input.take(COMPONENT_BYTES_MAX as u64 + 1).read_to_end(&mut wasm);
    read.map_err(|error| format!("read the plugin: {error}"))?;
    if wasm.len() > COMPONENT_BYTES_MAX {
        return Err(format!("the plugin has more than {COMPONENT_BYTES_MAX} bytes"));
    }
    let engine = config::compiling_engine().map_err(|error| format!("{error:#}"))?;
    let code = super::precompile(&engine, &wasm).map_err(|error| format!("{error:#}"))?;
    output.write_all(&code).and_then(|()| output.flush()).map_err(|error| format!("write the code: {error}"))
}

/// Beyond the memory, allocations fail, which aborts; beyond the CPU time the kernel ends the process.
fn limit_process() -> io::Result<()> {
    // Nobody waits for the code of a parent that is gone.
    set_parent_process_death_signal(Some(Signal::KILL))?;
    // A deployment is in less of a hurry than clients are.
    rustix::process::nice(NICE)?;
    let both = |value| Rlimit { current: Some(value), maximum: Some(value) };
    // An aborted compilation is nothing to keep a core file of.
    setrlimit(Resource::Core, both(0))?;
    setrlimit(Resource::As, both(MEMORY_BYTES_MAX))?;
    // The first signal is told from others, the second can't be survived.
    let seconds = CPU_TIME_MAX.as_secs();
    setrlimit(Resource::Cpu, Rlimit { current: Some(seconds), maximum: Some(seconds + 1) })?;
    Ok(())
}
