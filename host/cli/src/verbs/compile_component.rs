//! `relive compile-component`, which the host starts to compile an upload. Its protocol is the sandbox's; it is handled
//! before the command line is parsed, because its arguments are the sandbox's own.

use std::process::ExitCode;

/// The hidden verb's name.
pub const NAME: &str = "compile-component";

pub fn run() -> ExitCode {
    relive_sandbox::compile_child_main()
}
