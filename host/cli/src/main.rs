//! The `relive` binary; everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    relive::run(std::env::args_os())
}
