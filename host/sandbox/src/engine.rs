//! The wasmtime engines and every setting on which determinism or isolation rests.
//!
//! Owns: the two configurations (workflows, activities), the features that a component may use, the engine's
//! fingerprint. Must not know: what a workflow is, how components are admitted or linked.

use std::hash::{Hash, Hasher};
use std::num::NonZeroUsize;
use std::sync::Arc;

use sha2::{Digest, Sha256};
use wasmparser::WasmFeatures;
use wasmtime::{Config, Engine, InstanceAllocationStrategy, OptLevel};

use crate::memory::MemoryPool;

/// Address space per linear memory. With 4 GiB and a guard, Cranelift leaves out every bounds check of 32-bit
/// memories. Ten thousand guests take 40 TiB of the 128 TiB that a process has.
pub const MEMORY_RESERVATION: u64 = 4 << 30;

/// Guard behind the reservation: what an access with a constant offset may overshoot without a check.
pub const MEMORY_GUARD: u64 = 32 << 20;

/// Native stack that a guest may use. Calls are synchronous, so threads that run guests need this and room for the
/// host's own frames; 2 MiB, Rust's default, is plenty.
pub const MAX_WASM_STACK: usize = 512 << 10;

/// Fiber stack of an activity's call.
const ACTIVITY_STACK: usize = 2 << 20;

/// Frames kept of a trap's backtrace: enough to find the place, bounded for hostile recursion.
const BACKTRACE_FRAMES: usize = 20;

/// For whom a component is compiled: their engines differ, so their native code is never exchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EngineKind {
    /// Deterministic, metered by fuel, synchronous, memories of the host.
    Workflow,
    /// Calls on fibers, metered by fuel and stopped by epochs.
    Activity,
}

impl EngineKind {
    /// The name in file names and on the compiler child's command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Workflow => "workflow",
            Self::Activity => "activity",
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        [Self::Workflow, Self::Activity].into_iter().find(|kind| kind.as_str() == name)
    }
}

/// The engine could not be made: a defect of this build or of the machine, never of an upload.
#[derive(Debug, thiserror::Error)]
#[error("make the {} engine: {message}", kind.as_str())]
pub struct EngineError {
    pub kind: EngineKind,
    pub message: String,
}

/// A wasmtime engine with what must be known about it. Cheap to clone.
#[derive(Clone)]
pub struct SandboxEngine {
    kind: EngineKind,
    engine: Engine,
    optimise: bool,
    features: WasmFeatures,
    memory: MemoryPool,
    fingerprint: Arc<str>,
}

impl SandboxEngine {
    pub fn new(kind: EngineKind, optimise: bool) -> Result<Self, EngineError> {
        let memory = MemoryPool::new();
        let mut config = match kind {
            EngineKind::Workflow => workflow_config(&memory),
            EngineKind::Activity => activity_config(),
        };
        config.cranelift_opt_level(if optimise { OptLevel::Speed } else { OptLevel::None });
        let features = allowed_features();
        let engine = Engine::new(&config).map_err(|e| EngineError { kind, message: format!("{e:#}") })?;
        let fingerprint = fingerprint(&engine).into();
        Ok(Self { kind, engine, optimise, features, memory, fingerprint })
    }

    pub fn kind(&self) -> EngineKind {
        self.kind
    }

    /// Whether native code is optimised.
    pub fn optimises(&self) -> bool {
        self.optimise
    }

    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// The features that uploads are validated with.
    pub fn features(&self) -> WasmFeatures {
        self.features
    }

    /// Where guests' memories come from (unused by activities).
    pub fn memory(&self) -> &MemoryPool {
        &self.memory
    }

    /// Two engines with equal fingerprints can load each other's native code: SHA-256, in hexadecimal, over
    /// wasmtime's version, target and all settings that change code.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }
}

impl std::fmt::Debug for SandboxEngine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SandboxEngine").field("kind", &self.kind).field("fingerprint", &self.fingerprint).finish()
    }
}

/// Features whose results vary, whose state an image would not hold, or that no toolchain of ours needs. By flag and
/// not by wasmtime's setters: those vanish with the cargo feature that they belong to, this list does not.
const REFUSED_FEATURES: &[WasmFeatures] = &[
    WasmFeatures::THREADS,
    WasmFeatures::SHARED_EVERYTHING_THREADS,
    WasmFeatures::RELAXED_SIMD,
    WasmFeatures::MULTI_MEMORY,
    WasmFeatures::MEMORY64,
    WasmFeatures::CUSTOM_PAGE_SIZES,
    WasmFeatures::MEMORY_CONTROL,
    WasmFeatures::GC,
    WasmFeatures::GC_TYPES,
    WasmFeatures::FUNCTION_REFERENCES,
    WasmFeatures::EXCEPTIONS,
    WasmFeatures::LEGACY_EXCEPTIONS,
    WasmFeatures::STACK_SWITCHING,
    WasmFeatures::WIDE_ARITHMETIC,
    WasmFeatures::CUSTOM_DESCRIPTORS,
    WasmFeatures::COMPACT_IMPORTS,
    WasmFeatures::CM_VALUES,
    WasmFeatures::CM_NESTED_NAMES,
    WasmFeatures::CM_ASYNC,
    WasmFeatures::CM_ASYNC_STACKFUL,
    WasmFeatures::CM_MORE_ASYNC_BUILTINS,
    WasmFeatures::CM_THREADING,
    WasmFeatures::CM_ERROR_CONTEXT,
    WasmFeatures::CM_FIXED_LENGTH_LISTS,
    WasmFeatures::CM_GC,
    WasmFeatures::CM_MAP,
    WasmFeatures::CM64,
    WasmFeatures::CM_IMPLEMENTS,
    WasmFeatures::CM_CANON_NAMES,
];

/// What uploads may use: the standard features of this wasmparser without the refused ones. The engine is set to
/// exactly these, so that what validates here compiles there.
fn allowed_features() -> WasmFeatures {
    REFUSED_FEATURES.iter().fold(WasmFeatures::default(), |allowed, refused| allowed.difference(*refused))
}

fn common_config() -> Config {
    let mut config = Config::new();
    config.wasm_component_model(true);
    let features = allowed_features();
    for feature in WasmFeatures::all().iter() {
        config.wasm_features(feature, features.contains(feature));
    }
    // Sync WIT only: less state a store.
    config.concurrency_support(false);
    config.consume_fuel(true);
    config.max_wasm_stack(MAX_WASM_STACK);
    config.wasm_backtrace_max_frames(NonZeroUsize::new(BACKTRACE_FRAMES));
    // Wasmtime unwinds by frame pointers; the system's tables are for debuggers, and registering them is slow.
    config.native_unwind_info(false);
    // Bounds a compilation to one thread: the child's CPU limit is then its wall-clock limit too, and a big upload
    // cannot take all processors from running turns.
    config.parallel_compilation(false);
    config.allocation_strategy(InstanceAllocationStrategy::OnDemand);
    config
}

fn workflow_config(memory: &MemoryPool) -> Config {
    let mut config = common_config();
    // The same bits on every machine: NaNs have one pattern.
    config.cranelift_nan_canonicalization(true);
    config.relaxed_simd_deterministic(true);
    config.with_host_memory(Arc::new(memory.clone()));
    config.memory_reservation(MEMORY_RESERVATION);
    config.memory_guard_size(MEMORY_GUARD);
    config.memory_may_move(false);
    // A copy-on-write image cannot be put on a memory of the host.
    config.memory_init_cow(false);
    config
}

fn activity_config() -> Config {
    let mut config = common_config();
    config.async_stack_size(ACTIVITY_STACK);
    config.epoch_interruption(true);
    config.memory_reservation(MEMORY_RESERVATION);
    config.memory_guard_size(MEMORY_GUARD);
    config
}

/// Feeds everything that is hashed into SHA-256, which unlike the standard hasher is the same in every build.
struct Sha256Hasher(Sha256);

impl Hasher for Sha256Hasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        let digest = self.0.clone().finalize();
        digest.iter().take(8).fold(0, |sum, byte| (sum << 8) | u64::from(*byte))
    }
}

fn fingerprint(engine: &Engine) -> String {
    let mut hasher = Sha256Hasher(Sha256::new());
    engine.precompile_compatibility_hash().hash(&mut hasher);
    hex(hasher.0.finalize().as_slice())
}

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    text
}
