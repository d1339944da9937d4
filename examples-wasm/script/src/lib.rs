//! A workflow for tests: it runs a program given as its input, and answers what the program saw. `program` is the
//! grammar, `record` the result.

mod burn;
mod handle;
mod interpret;
mod program;
mod record;

use interpret::{Machine, Stop};
use program::Script;
use record::Record;
use relive_sdk::{workflow, Failure};

/// Runs the program that it is given.
#[workflow]
async fn script(script: Script) -> Result<Record, Failure> {
    let machine = Machine::new(&script);
    match machine.run(&script.program).await {
        Ok(()) | Err(Stop::Finish) => Ok(machine.finish()),
        Err(Stop::Failed(failure)) => Err(failure),
    }
}

relive_sdk::workflows![script];
