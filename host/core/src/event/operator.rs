//! What operators did to an execution, beside pausing and ending it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::json::Json;

/// An operator had something done; the guest never learns of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CommandIssued {
    /// Such as `activity.pause`; those that rules depend on are constants here.
    pub name: Arc<str>,
    /// The activity that it is about.
    pub target: Option<u64>,
    pub arguments: Option<Json>,
    /// Why, in the operator's words.
    pub note: String,
}

impl CommandIssued {
    /// The activity begins anew with its first attempt, whatever became of those before.
    pub const RESET: &'static str = "activity.reset";
    /// The attempts of an exhausted activity begin again from the first.
    pub const REDRIVE: &'static str = "activity.redrive";
    /// An exhausted activity is resolved with how its last attempt ended.
    pub const GIVE_UP: &'static str = "activity.give-up";

    /// The activity whose attempts begin again with this.
    #[must_use]
    pub fn revives(&self) -> Option<u64> {
        self.target.filter(|_| matches!(&*self.name, Self::RESET | Self::REDRIVE))
    }
}
