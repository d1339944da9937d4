//! The one call that turns stored native code into something that runs.
//!
//! Apart from `memory` because it is unsafe for another reason: wasmtime trusts what it deserializes as it trusts its
//! own compiler's output, and a forged file would be arbitrary code in this process. So the function takes a
//! [`TrustedCode`], which has two sources only: the compiler (this process or its child) and the cache, after the
//! file's MAC was verified with the host's own key. Must not know: where files lie, how code is compiled.
#![allow(unsafe_code)]

use wasmtime::component::Component;

use crate::engine::SandboxEngine;

/// Native code whose origin is known. Only this crate's compiler and cache make it.
pub(crate) struct TrustedCode(Vec<u8>);

impl TrustedCode {
    /// What the compiler just returned.
    pub(crate) fn compiled(code: Vec<u8>) -> Self {
        Self(code)
    }

    /// What came from the cache, the MAC verified.
    pub(crate) fn authenticated(code: Vec<u8>) -> Self {
        Self(code)
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Loads native code. An error means that it was made by another version or with other settings.
pub(crate) fn load(engine: &SandboxEngine, code: &TrustedCode) -> wasmtime::Result<Component> {
    // SAFETY: the bytes are unchanged output of `Engine::precompile_component`: see the module's text. wasmtime
    // itself checks version, target and settings, and copies the bytes.
    unsafe { Component::deserialize(engine.engine(), code.bytes()) }
}
