//! The activity of the long runner: the next value of a sequence in which no step can be left out unnoticed.

use relive_sdk::{activity, ActivityFailure};

/// The linear congruential generator of *Numerical Recipes*.
#[activity]
fn advance(value: u32) -> Result<u32, ActivityFailure> {
    Ok(value.wrapping_mul(1_664_525).wrapping_add(1_013_904_223))
}

relive_sdk::activities![advance];
