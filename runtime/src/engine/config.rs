//! How wasmtime is configured. What plugins do not need is off: each proposal is code that a hostile guest can
//! reach.

use wasmtime::{Config, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, Strategy};

use crate::limits::{MEMORY_BYTES_CEILING, TABLE_ELEMENTS_CEILING};

/// Core modules, tables and memories that one component may consist of. One of Python has 39 modules: the interpreter,
/// its libraries, and what links them.
pub(crate) const CORE_INSTANCES_MAX: u32 = 64;
pub(crate) const TABLES_MAX: u32 = 16;
pub(crate) const MEMORIES_MAX: u32 = 4;
/// Metadata of one instance, which grows with its functions and globals.
const INSTANCE_METADATA_BYTES_MAX: usize = 10 * 1024 * 1024;
/// Stack of a call, guest and host functions together; the guest has `WASM_STACK_BYTES` of it.
const STACK_BYTES: usize = 2 * 1024 * 1024;
const WASM_STACK_BYTES: usize = 1024 * 1024;
/// Slots that stay warm after use. Instances live as long as their stage, so reuse is rare.
const WARM_SLOTS_MAX: u32 = 8;

/// The engine, with pooled instances if the address space allows it: a limit such as `ulimit -v` does not.
pub(super) fn engine(instances_max: u32) -> wasmtime::Result<Engine> {
    let mut config = base();
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool(instances_max)));
    match Engine::new(&config) {
        Ok(engine) => Ok(engine),
        Err(error) => {
            tracing::info!(
                error = format!("{error:#}"),
                "no address space to pool instances, making each anew"
            );
            Engine::new(&base())
        }
    }
}

/// The engine of a process that only compiles. Its code runs in [`engine`]: what shapes code is the same. It pools
/// nothing, since its address space is limited, and compiles one function at a time, so that one function's memory
/// is all that there is at any time.
pub(super) fn compiling_engine() -> wasmtime::Result<Engine> {
    let mut config = base();
    config.parallel_compilation(false);
    Engine::new(&config)
}

fn base() -> Config {
    let mut config = Config::new();
    config
        .strategy(Strategy::Cranelift)
        .epoch_interruption(true)
        .concurrency_support(false)
        .max_wasm_stack(WASM_STACK_BYTES)
        .async_stack_size(STACK_BYTES)
        .shared_memory(false)
        .wasm_memory64(false)
        // Where a component is made of components, what passes between them reads one memory and writes another.
        .wasm_multi_memory(true)
        .wasm_gc(false)
        .wasm_function_references(false)
        .wasm_exceptions(false)
        .wasm_stack_switching(false)
        .wasm_custom_page_sizes(false)
        .wasm_wide_arithmetic(false)
        .wasm_relaxed_simd(false)
        .wasm_tail_call(true);
    config
}

fn pool(instances_max: u32) -> PoolingAllocationConfig {
    // Most plugins have one memory and a table or two; the largest one must find its place all the same.
    let room = |of_each: u32, of_one: u32| instances_max.saturating_mul(of_each).max(of_one);
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(instances_max)
        .total_core_instances(room(CORE_INSTANCES_MAX, CORE_INSTANCES_MAX))
        .total_memories(room(2, MEMORIES_MAX))
        .total_tables(room(4, TABLES_MAX))
        .total_stacks(instances_max)
        .max_component_instance_size(INSTANCE_METADATA_BYTES_MAX)
        .max_core_instance_size(INSTANCE_METADATA_BYTES_MAX)
        .max_core_instances_per_component(CORE_INSTANCES_MAX)
        .max_memories_per_component(MEMORIES_MAX)
        .max_tables_per_component(TABLES_MAX)
        .max_tables_per_module(4)
        .table_elements(TABLE_ELEMENTS_CEILING as usize)
        .max_memory_size(usize::try_from(MEMORY_BYTES_CEILING).expect("the ceiling fits the address space"))
        .max_unused_warm_slots(WARM_SLOTS_MAX);
    pool
}
