//! Steps that strain the sandbox: time, stack and memory. Their results depend on their arguments alone.

use std::hint::black_box;

/// Size of a page that has to be written to become resident.
const PAGE: usize = 4096;

/// That many rounds of xorshift.
pub fn compute(rounds: u64) -> u64 {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for _ in 0..rounds {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state = black_box(state);
    }
    state
}

/// The depth, counted on the stack.
#[inline(never)]
pub fn recurse(depth: u32) -> u32 {
    let frame = black_box([depth; 16]);
    match depth {
        0 => 0,
        _ => recurse(frame[0] - 1) + black_box(frame)[15] / depth,
    }
}

/// Memory of which every page was written.
pub fn alloc(bytes: usize) -> Vec<u8> {
    let mut memory = vec![0_u8; bytes];
    for page in memory.chunks_mut(PAGE) {
        page[0] = 1;
    }
    black_box(memory)
}

/// Never returns.
pub fn forever() -> ! {
    loop {
        black_box(0);
    }
}
