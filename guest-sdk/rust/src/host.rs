//! The one way to the host. In a guest the calls are the imports of `relive:workflow/durable`; natively they go to
//! the fake host of `testing`, so that the executor can be tested without WebAssembly. Owns no state.

#[cfg(target_arch = "wasm32")]
pub(crate) use crate::bindings::durable::{
    cancel_promise, info, log, next_message, now, publish, random_bytes, random_u64, start_activity, start_timer, uuid,
    version,
};

#[cfg(not(target_arch = "wasm32"))]
pub(crate) use crate::testing::calls::{
    cancel_promise, info, log, next_message, now, publish, random_bytes, random_u64, start_activity, start_timer, uuid,
    version,
};
