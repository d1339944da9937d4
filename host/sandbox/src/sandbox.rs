//! The facade: admit an upload, load a component, and hand out instances.
//!
//! Owns the order in which admission, compiler, cache and linker are used, and their counters. Compilations and calls
//! block: callers in async code put them on a thread of their own. Must not know: stores, histories, HTTP.

use std::borrow::Cow;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use relive_core::Digest;
use wasmtime::component::Component;

use crate::admission::{self, AdmissionError, ComponentKind, Inspection};
use crate::cache::{CacheError, Lookup, NativeCache};
use crate::compile::{CompileLimits, CompileMode, Compiler, Purpose};
use crate::engine::{EngineError, EngineKind, SandboxEngine};
use crate::loaded::{LoadedComponent, Reactors};
use crate::memory::MemoryStats;
use crate::native;

/// What of an admission is through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Its structure and imports are what may be.
    Checked,
    /// There is native code of it.
    Compiled,
}

/// How a sandbox is set up.
#[derive(Clone, Debug)]
pub struct SandboxConfig {
    /// Where native code is kept; `None`: every start compiles again.
    pub cache_dir: Option<PathBuf>,
    pub compile: CompileMode,
    pub compile_limits: CompileLimits,
    /// Optimised native code. Without it compiling is faster and guests are slower; they do the same.
    pub optimise: bool,
}

impl SandboxConfig {
    /// Compiles in this process and keeps nothing: for tests and embedders who trust their components.
    pub fn in_process() -> Self {
        Self {
            cache_dir: None,
            compile: CompileMode::InProcess,
            compile_limits: CompileLimits::default(),
            optimise: true,
        }
    }
}

/// The sandbox could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error(transparent)]
    Cache(#[from] CacheError),
    #[error("link the host's interfaces: {0}")]
    Link(String),
}

/// What came of looking into the cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheStats {
    pub hits: u64,
    pub misses: u64,
    /// Files that were not what this host wrote.
    pub rejected: u64,
}

/// A component that may be deployed.
#[derive(Clone, Debug)]
pub struct Admitted {
    pub inspection: Inspection,
    pub component: AdmittedComponent,
}

/// The component, ready for its kind of host.
#[derive(Clone)]
pub enum AdmittedComponent {
    Workflow(LoadedComponent),
    /// Compiled for [`Sandbox::activity_engine`]; its `describe` is called by those who link WASI.
    Activity(Component),
}

impl std::fmt::Debug for AdmittedComponent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Workflow(loaded) => f.debug_tuple("Workflow").field(loaded).finish(),
            Self::Activity(_) => f.debug_tuple("Activity").finish_non_exhaustive(),
        }
    }
}

/// Admission, compilation and instances. Cheap to clone.
#[derive(Clone)]
pub struct Sandbox(Arc<Inner>);

struct Inner {
    workflow: SandboxEngine,
    activity: SandboxEngine,
    reactors: Reactors,
    compiler: Compiler,
    cache: Option<NativeCache>,
    hits: AtomicU64,
    misses: AtomicU64,
    rejected: AtomicU64,
}

impl Sandbox {
    pub fn new(config: SandboxConfig) -> Result<Self, SandboxError> {
        let workflow = SandboxEngine::new(EngineKind::Workflow, config.optimise)?;
        let activity = SandboxEngine::new(EngineKind::Activity, config.optimise)?;
        let reactors = Reactors::new(&workflow).map_err(|e| SandboxError::Link(format!("{e:#}")))?;
        let cache = config.cache_dir.as_deref().map(NativeCache::open).transpose()?;
        let compiler = Compiler::new(config.compile, config.compile_limits);
        let (hits, misses, rejected) = Default::default();
        Ok(Self(Arc::new(Inner { workflow, activity, reactors, compiler, cache, hits, misses, rejected })))
    }

    /// Changes with everything that native code of workflows depends on, in hexadecimal.
    #[must_use]
    pub fn fingerprint(&self) -> &str {
        self.0.workflow.fingerprint()
    }

    /// The checks that neither compile nor run anything; the descriptions stay empty.
    pub fn check(&self, upload: &[u8]) -> Result<Inspection, AdmissionError> {
        Ok(admission::check(upload, self.0.workflow.features())?.inspection)
    }

    /// Everything that can be known about an upload; runs nothing but `describe`.
    pub fn inspect(&self, upload: &[u8]) -> Result<Inspection, AdmissionError> {
        Ok(self.admit(upload)?.inspection)
    }

    /// Decides about an upload: checks, compilation, and for workflows one instance that is asked what it holds.
    pub fn admit(&self, upload: &[u8]) -> Result<Admitted, AdmissionError> {
        self.admit_told(upload, &|_| {})
    }

    /// The same; `told` hears what is through.
    pub fn admit_told(&self, upload: &[u8], told: &dyn Fn(Stage)) -> Result<Admitted, AdmissionError> {
        let checked = admission::check(upload, self.0.workflow.features())?;
        told(Stage::Checked);
        let mut inspection = checked.inspection;
        let digest = inspection.digest;
        let component = match inspection.kind {
            ComponentKind::Workflow => {
                let native = self.native(EngineKind::Workflow, digest, Purpose::Upload, || Ok(checked.component))?;
                told(Stage::Compiled);
                let loaded = self.0.reactors.link(digest, &native)?;
                inspection.descriptions = loaded.describe()?;
                if inspection.image.is_ok() && !loaded.has_images() {
                    inspection.image = Err("instantiation calls the host, so fresh instances may differ".into());
                    inspection.image_globals = 0;
                }
                AdmittedComponent::Workflow(loaded)
            }
            ComponentKind::Activity => {
                let native = self.native(EngineKind::Activity, digest, Purpose::Upload, || Ok(checked.component))?;
                told(Stage::Compiled);
                AdmittedComponent::Activity(native)
            }
        };
        Ok(Admitted { inspection, component })
    }

    /// Loads a workflow that was admitted before, from the cache if it is there. `upload` are the bytes as uploaded.
    pub fn load(&self, digest: Digest, upload: &[u8]) -> Result<LoadedComponent, AdmissionError> {
        let native = self.load_native(EngineKind::Workflow, digest, upload)?;
        self.0.reactors.link(digest, &native)
    }

    /// The same for an activity; linking it is the caller's.
    pub fn load_activity(&self, digest: Digest, upload: &[u8]) -> Result<Component, AdmissionError> {
        self.load_native(EngineKind::Activity, digest, upload)
    }

    /// The engine for which activities are compiled.
    pub fn activity_engine(&self) -> &SandboxEngine {
        &self.0.activity
    }

    pub fn workflow_engine(&self) -> &SandboxEngine {
        &self.0.workflow
    }

    /// Memories of living workflow guests.
    pub fn memory_stats(&self) -> MemoryStats {
        self.0.workflow.memory().stats()
    }

    pub fn cache_stats(&self) -> CacheStats {
        CacheStats {
            hits: self.0.hits.load(Ordering::Relaxed),
            misses: self.0.misses.load(Ordering::Relaxed),
            rejected: self.0.rejected.load(Ordering::Relaxed),
        }
    }

    /// The file that holds a component's native code, if there is a cache.
    pub fn cache_path(&self, kind: EngineKind, digest: &Digest) -> Option<PathBuf> {
        Some(self.0.cache.as_ref()?.path_of(self.engine(kind), digest))
    }

    fn engine(&self, kind: EngineKind) -> &SandboxEngine {
        match kind {
            EngineKind::Workflow => &self.0.workflow,
            EngineKind::Activity => &self.0.activity,
        }
    }

    fn load_native(&self, kind: EngineKind, digest: Digest, upload: &[u8]) -> Result<Component, AdmissionError> {
        let found = Digest::of(upload);
        if found != digest {
            let (expected, found) = (digest.to_string(), found.to_string());
            return Err(AdmissionError::DigestMismatch { expected, found });
        }
        self.native(kind, digest, Purpose::Load, || {
            let checked = admission::check(upload, self.engine(kind).features())?;
            match (kind, checked.inspection.kind) {
                (EngineKind::Workflow, ComponentKind::Workflow) | (EngineKind::Activity, ComponentKind::Activity) => {
                    Ok(checked.component)
                }
                (_, found) => Err(AdmissionError::WrongKind { expected: kind.as_str(), found: found.as_str() }),
            }
        })
    }

    /// Native code from the cache, or compiled and put there. `component` gives the checked bytes.
    fn native<'a>(
        &self,
        kind: EngineKind,
        digest: Digest,
        purpose: Purpose,
        component: impl FnOnce() -> Result<Cow<'a, [u8]>, AdmissionError>,
    ) -> Result<Component, AdmissionError> {
        let engine = self.engine(kind);
        if let Some(component) = self.cached(engine, digest) {
            return Ok(component);
        }
        let code = self.0.compiler.compile(engine, &component()?, purpose)?;
        let loaded = native::load(engine, &code).map_err(|e| AdmissionError::Load { message: format!("{e:#}") })?;
        if let Some(cache) = &self.0.cache {
            // A full disk costs time at the next start, nothing else.
            if let Err(error) = cache.store(engine, &digest, &code) {
                tracing::warn!(%error, %digest, "failed to cache native code");
            }
        }
        Ok(loaded)
    }

    fn cached(&self, engine: &SandboxEngine, digest: Digest) -> Option<Component> {
        let cache = self.0.cache.as_ref()?;
        let rejected = match cache.look_up(engine, &digest) {
            Lookup::Miss => {
                self.0.misses.fetch_add(1, Ordering::Relaxed);
                return None;
            }
            Lookup::Rejected(reason) => reason.to_owned(),
            Lookup::Hit(code) => match native::load(engine, &code) {
                Ok(component) => {
                    self.0.hits.fetch_add(1, Ordering::Relaxed);
                    return Some(component);
                }
                Err(error) => format!("{error:#}"),
            },
        };
        self.0.rejected.fetch_add(1, Ordering::Relaxed);
        let path = cache.path_of(engine, &digest);
        tracing::warn!(path = %path.display(), reason = %rejected, "ignored a file of cached native code");
        None
    }
}

impl std::fmt::Debug for Sandbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sandbox").field("workflow", &self.0.workflow).field("cache", &self.0.cache).finish()
    }
}
