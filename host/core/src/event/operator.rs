//! What operators did to an execution, beside pausing and ending it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::json::Json;

/// An operator had something done; the guest never learns of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CommandIssued {
    /// Such as `activity.pause`.
    pub name: Arc<str>,
    /// The activity that it is about.
    pub target: Option<u64>,
    pub arguments: Option<Json>,
    /// Why, in the operator's words.
    pub note: String,
}
