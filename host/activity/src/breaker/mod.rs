//! The circuit breaker around a deployed activity: a target that keeps failing is not asked for a while.
//!
//! `machine` is the state machine, pure, with the time as an argument; `layer` puts it around attempts, and knows what
//! counts as a failure of the target. One breaker a deployed activity, so one by namespace, name and target: a new
//! deployment begins closed.

mod layer;
mod machine;
#[cfg(test)]
mod machine_tests;

pub use layer::Breaker;
pub(crate) use layer::BreakerLayer;
pub use machine::{BreakerPolicy, BreakerState, BreakerView};
