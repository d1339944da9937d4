//! Events of messages.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::json::Json;

/// A message without an answer arrived in a channel.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SignalReceived {
    pub channel: Arc<str>,
    /// Unique within the run; a second message of the same id is the same message.
    pub message_id: Arc<str>,
    pub payload: Json,
}
