//! Why the wasm host cannot be set up, or a component not be deployed as an activity.

use relive_core::guest::GuestFault;
use relive_sandbox::AdmissionError;

/// The host could not be set up: a defect of the build or of the machine.
#[derive(Debug, thiserror::Error)]
pub enum WasmHostError {
    #[error("link the activities' interfaces: {0}")]
    Link(String),
    #[error("start the activities' threads: {0}")]
    Threads(#[from] std::io::Error),
}

/// A component that is refused as an activity.
#[derive(Debug, thiserror::Error)]
pub enum DeployError {
    #[error(transparent)]
    Admission(#[from] AdmissionError),
    #[error("find the activity `{name}` in the component: it exports {exports}; correct the name, or the component")]
    NotExported { name: String, exports: String },
}

impl DeployError {
    /// A stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Admission(error) => error.code(),
            Self::NotExported { .. } => "activity-not-exported",
        }
    }

    /// Whether the upload is to blame, as opposed to this host or machine.
    #[must_use]
    pub fn is_uploads_fault(&self) -> bool {
        match self {
            Self::Admission(error) => error.is_uploads_fault(),
            Self::NotExported { .. } => true,
        }
    }

    pub(crate) fn describe(fault: GuestFault) -> Self {
        Self::Admission(AdmissionError::Describe(fault))
    }
}
