//! The compiler child as a program of its own, for embedders and tests; the `relive` binary has it as a hidden verb.

use std::process::ExitCode;

fn main() -> ExitCode {
    relive_sandbox::compile_child_main()
}
