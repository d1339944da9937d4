//! The one narrow view that the engine has of a guest: begin or take one event, then look at the cursor.
//!
//! The reactor driver of the sandbox is the first implementation; tests have a scripted one. Nothing outside of an
//! implementation may care how a guest is run.

use std::sync::Arc;

use crate::{
    cursor::Cursor,
    failure::Failure,
    image::GuestStamp,
    json::Json,
    ports::{StoreError, StoreErrorKind},
};

/// What the guest is handed.
#[derive(Clone, Debug, PartialEq)]
pub enum GuestEvent {
    /// A promise came to something.
    Resolved {
        promise: u64,
        /// Set for promises of `next-message`.
        message_id: Option<Arc<str>>,
        outcome: Result<Json, Failure>,
    },
    /// Somebody asked the execution to cancel. Delivered once.
    CancelRequested,
}

/// Where the workflow stands after a call.
#[derive(Clone, Debug, PartialEq)]
pub enum GuestState {
    Waiting,
    Done(Outcome),
}

/// How a run ends by its own will.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    Completed(Json),
    Failed(Failure),
    ContinuedAsNew { input: Json, unread_messages: Vec<Arc<str>> },
}

impl Outcome {
    /// A line for reports.
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            Self::Completed(result) => format!("completed with {result}"),
            Self::Failed(failure) => format!("failed with {failure}"),
            Self::ContinuedAsNew { input, .. } => format!("continued as new with {input}"),
        }
    }
}

/// What went wrong inside a guest. The guest is dead afterwards; history decides what becomes of the execution.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GuestFault {
    /// The cursor refused a call: the report stands in the cursor.
    #[error("the code diverged from its history")]
    Diverged,
    /// A trap, with the guest's backtrace.
    #[error("the guest trapped: {0}")]
    Trap(String),
    #[error("the guest used up its fuel: {0}")]
    OutOfFuel(String),
    #[error("the guest asked for more memory than it may have: {0}")]
    OutOfMemory(String),
    /// The depth of the native stack is not deterministic: an infrastructure fault.
    #[error("the guest overflowed its stack: {0}")]
    StackOverflow(String),
    /// The guest answered what the contract forbids: a result that is no JSON, an unknown workflow name.
    #[error("the guest broke the contract: {0}")]
    Contract(String),
    /// The host could not do it: a failed mmap, a missing component.
    #[error("the host could not run the guest: {0}")]
    Host(String),
    /// The store cannot be read now. Says nothing of the guest, however often it is tried.
    #[error("what the guest needs cannot be read now: {0}")]
    Unavailable(String),
}

impl GuestFault {
    /// What a store's error means for a guest that needed what was read: `what` it was.
    #[must_use]
    pub fn unread(what: &str, error: &StoreError) -> Self {
        let text = format!("{what}: {error}");
        match error.kind {
            StoreErrorKind::Corrupt | StoreErrorKind::Fatal => Self::Host(text),
            _ => Self::Unavailable(text),
        }
    }
}

/// A guest's part of a memory image.
#[derive(Clone, Debug, PartialEq)]
pub struct Captured {
    pub stamp: GuestStamp,
    /// What [`Guest::capture`]'s implementation lays again.
    pub body: Vec<u8>,
}

/// Why a memory image was not laid. The execution relives instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotLaid {
    /// The component has state that images do not hold, or its host makes none.
    #[error("guests of this component are not laid: {0}")]
    Ineligible(String),
    /// It was taken under another engine, component or instrumentation.
    #[error("the image is stale: {0}")]
    Stale(String),
    /// It contradicts itself.
    #[error("the image is corrupt: {0}")]
    Corrupt(String),
    #[error(transparent)]
    Fault(#[from] GuestFault),
}

/// One instance of a workflow.
pub trait Guest: Send {
    /// Begin. Called once, first.
    fn start(&mut self, workflow: &str, input: &Json) -> Result<GuestState, GuestFault>;

    /// Take one event and run until nothing can go on.
    fn resume(&mut self, event: GuestEvent) -> Result<GuestState, GuestFault>;

    /// The host's side of this instance, which answers its durable calls.
    fn cursor(&mut self) -> &mut Cursor;

    /// Bytes of memory that the instance holds, for the cache's account.
    fn memory_bytes(&self) -> usize;

    /// Maps of the process's address space that the instance holds, for the cache's account.
    fn memory_maps(&self) -> usize {
        0
    }

    /// The guest's whole memory between two events, if it is of the kind that has all its state there (I13).
    fn memory(&mut self) -> Option<&[u8]> {
        None
    }

    /// The guest's part of a memory image, between two events; `None` if there can be none. `Err` is the end of this
    /// instance.
    fn capture(&mut self) -> Result<Option<Captured>, GuestFault> {
        Ok(None)
    }
}

impl<G: Guest + ?Sized> Guest for Box<G> {
    fn start(&mut self, workflow: &str, input: &Json) -> Result<GuestState, GuestFault> {
        (**self).start(workflow, input)
    }
    fn resume(&mut self, event: GuestEvent) -> Result<GuestState, GuestFault> {
        (**self).resume(event)
    }
    fn cursor(&mut self) -> &mut Cursor {
        (**self).cursor()
    }
    fn memory_bytes(&self) -> usize {
        (**self).memory_bytes()
    }
    fn memory_maps(&self) -> usize {
        (**self).memory_maps()
    }
    fn memory(&mut self) -> Option<&[u8]> {
        (**self).memory()
    }
    fn capture(&mut self) -> Result<Option<Captured>, GuestFault> {
        (**self).capture()
    }
}
