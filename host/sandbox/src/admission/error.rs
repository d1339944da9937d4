//! Why an upload is refused. Every variant has a stable code for programs and a message that says what was wrong,
//! where, and what to do. The messages fit "failed to {..}".

use relive_core::guest::GuestFault;

use crate::compile::CompileError;

/// A refused upload.
#[derive(Debug, thiserror::Error)]
pub enum AdmissionError {
    #[error(
        "read the upload as WebAssembly: it begins with {found}, not with \"\\0asm\"; \
         upload the .wasm file that the build made"
    )]
    NotWasm { found: String },

    #[error("read the upload: it ends in the middle, at byte {offset} ({message}); upload the whole file")]
    Truncated { offset: usize, message: String },

    #[error("validate the upload: {message} (at byte {offset}); rebuild it with a toolchain named in the guide")]
    Invalid { offset: usize, message: String },

    #[error("accept the upload: {what} {found}, at most {limit} are allowed; make the component smaller")]
    LimitExceeded { code: &'static str, what: &'static str, found: u64, limit: u64 },

    #[error(
        "make a component of the core module: it carries no component metadata (no `component-type` section); \
         build it with wit-bindgen and the world `relive:workflow/workflow`, or with `wasm-tools component embed`"
    )]
    NoMetadata,

    #[error(
        "make a component of the core module: it imports only WASI preview 1 and is not a workflow of the contract; \
         this host does not run such commands yet: build a reactor with the SDK, for wasm32-unknown-unknown"
    )]
    Preview1Module,

    #[error("make a component of the core module: {message}; build it against this host's wit/ directory")]
    Encode { message: String },

    #[error("accept the import `{import}`: {reason}")]
    ImportRefused { import: String, reason: &'static str },

    #[error(
        "accept `{interface}`: this host speaks version {known} of it; \
         rebuild the component against that version, or update the host"
    )]
    UnknownInterfaceVersion { interface: String, known: &'static str },

    #[error("accept `{interface}`: this host has no such interface; known are {known}")]
    UnknownInterface { interface: String, known: &'static str },

    #[error(
        "find a workflow in the component: it exports neither `relive:workflow/reactor@0.1.0` \
         nor `relive:activity/handler@0.1.0` (it exports {exports}); mark a function with the SDK's macro"
    )]
    NoWorkflow { exports: String },

    #[error("accept the export `{export}`: names that begin with `{reserved}` are the host's own; name it otherwise")]
    ReservedExport { export: String, reserved: &'static str },

    #[error("tell what the component is: it exports both a workflow and an activity handler; build them apart")]
    Ambiguous,

    #[error("match the component with the contract: {message}; rebuild it against this host's wit/ directory")]
    ContractMismatch { message: String },

    #[error("{0}; make the component smaller or simpler")]
    Compile(#[from] CompileError),

    #[error("load the native code: {message}; remove the file from the cache directory and try again")]
    Load { message: String },

    #[error("instantiate the component: {0}")]
    Instantiate(#[source] GuestFault),

    #[error("call the component's `describe`: {0}")]
    Describe(#[source] GuestFault),

    #[error("use the component's description: {message}")]
    Description { message: String },

    #[error("take the bytes for {expected}: their digest is {found}; they were exchanged or damaged in the store")]
    DigestMismatch { expected: String, found: String },

    #[error("use the component: it is {found}, not {expected}")]
    WrongKind { expected: &'static str, found: &'static str },
}

impl AdmissionError {
    /// Stable, for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotWasm { .. } => "not-wasm",
            Self::Truncated { .. } => "truncated",
            Self::Invalid { .. } => "invalid",
            Self::LimitExceeded { code, .. } => code,
            Self::NoMetadata => "no-metadata",
            Self::Preview1Module => "preview1-module",
            Self::Encode { .. } => "not-componentizable",
            Self::ImportRefused { .. } => "import-refused",
            Self::UnknownInterfaceVersion { .. } => "unknown-interface-version",
            Self::UnknownInterface { .. } => "unknown-interface",
            Self::NoWorkflow { .. } => "no-workflow",
            Self::ReservedExport { .. } => "reserved-export",
            Self::Ambiguous => "ambiguous-kind",
            Self::ContractMismatch { .. } => "contract-mismatch",
            Self::Compile(CompileError::Timeout { .. }) => "compile-timeout",
            Self::Compile(CompileError::Memory { .. }) => "compile-memory",
            Self::Compile(CompileError::Invalid(_)) => "compile-refused",
            Self::Compile(CompileError::Crashed(_)) => "compile-crashed",
            Self::Compile(CompileError::Io(_)) => "compile-unavailable",
            Self::Load { .. } => "native-code-unloadable",
            Self::Instantiate(fault) => match fault {
                GuestFault::Trap(_) | GuestFault::Diverged | GuestFault::Contract(_) => "instantiate-trap",
                GuestFault::OutOfFuel(_) => "instantiate-fuel",
                GuestFault::OutOfMemory(_) => "instantiate-memory",
                GuestFault::StackOverflow(_) => "instantiate-stack",
                GuestFault::Host(_) | GuestFault::Unavailable(_) => "instantiate-failed",
            },
            Self::Describe(fault) => match fault {
                GuestFault::Trap(_) | GuestFault::Diverged | GuestFault::Contract(_) => "describe-trap",
                GuestFault::OutOfFuel(_) => "describe-fuel",
                GuestFault::OutOfMemory(_) => "describe-memory",
                GuestFault::StackOverflow(_) => "describe-stack",
                GuestFault::Host(_) | GuestFault::Unavailable(_) => "describe-failed",
            },
            Self::Description { .. } => "describe-invalid",
            Self::DigestMismatch { .. } => "digest-mismatch",
            Self::WrongKind { .. } => "wrong-kind",
        }
    }

    /// Whether the upload is to blame (an HTTP 4xx), as opposed to this host or machine (a 5xx).
    pub fn is_uploads_fault(&self) -> bool {
        !matches!(
            self,
            Self::Compile(CompileError::Io(_))
                | Self::Load { .. }
                | Self::DigestMismatch { .. }
                | Self::WrongKind { .. }
        )
    }
}
