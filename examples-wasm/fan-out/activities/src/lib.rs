//! The activity of the fan-out example: work without effects.

use relive_sdk::{activity, ActivityFailure};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[derive(Deserialize, JsonSchema)]
struct Item {
    item: u32,
    rounds: u32,
}

#[derive(Serialize, JsonSchema)]
struct Digest {
    item: u32,
    digest: String,
}

/// FNV-1a (64 bits, hexadecimal) over the item's bytes, little-endian, so many times.
#[activity]
fn digest(input: Item) -> Result<Digest, ActivityFailure> {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for _ in 0..input.rounds {
        for byte in input.item.to_le_bytes() {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    Ok(Digest { item: input.item, digest: format!("{hash:016x}") })
}

relive_sdk::activities![digest];
