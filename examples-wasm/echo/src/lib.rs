//! The activity that benchmarks call as WebAssembly: it gives its input back.

use relive_sdk::{activity, ActivityFailure, Task};

/// Gives its input back.
#[activity(name = "wasm-echo")]
fn wasm_echo(_task: &Task, input: String) -> Result<String, ActivityFailure> {
    Ok(input)
}

relive_sdk::activities![wasm_echo];
