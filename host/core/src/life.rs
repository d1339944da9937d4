//! A life: one instance of a guest together with the rules by which history is applied to it. The engine lives turns
//! through it, replay relives them, and the property tests hold both against each other.

use crate::{
    cursor::{Divergence, Mode, TurnOutput},
    event::{Attributes, BlockReason, HistoryEvent},
    failure::FailureKind,
    guest::{Guest, GuestFault, GuestState, Outcome},
};

/// Why a turn did not come to its end. The instance is of no further use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TurnError {
    #[error("{0}")]
    Diverged(Box<Divergence>),
    #[error("{0}")]
    Fault(GuestFault),
    /// The history cannot be lived: it does not begin with a start event.
    #[error("the history is unusable: {0}")]
    Unusable(String),
}

impl TurnError {
    /// Under which reason the execution is blocked.
    #[must_use]
    pub fn block_reason(&self) -> BlockReason {
        match self {
            Self::Diverged(_) => BlockReason::NonDeterminism,
            Self::Fault(GuestFault::OutOfFuel(_)) => BlockReason::OutOfFuel,
            Self::Fault(GuestFault::OutOfMemory(_)) => BlockReason::OutOfMemory,
            Self::Fault(_) => BlockReason::Trap,
            Self::Unusable(_) => BlockReason::Unusable,
        }
    }

    /// Whether the same turn, tried again, may go better: history and code are what they are, the host is not.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        matches!(self, Self::Fault(fault) if !matches!(fault, GuestFault::Diverged))
    }
}

/// How far a record reaches, and how strictly it is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Record {
    /// The execution's row says that inbound events up to `applied_through` were applied and `commands` issued.
    Complete { applied_through: u64, commands: u64 },
    /// A history that may have been cut off anywhere: where the recorded commands end, the guest may go on.
    CutOff,
}

/// What reliving came to.
#[derive(Debug, Default)]
pub struct Relived {
    /// Inbound events that were applied.
    pub events: u64,
    /// What the guest would have recorded beyond a cut-off history, and, if the cursor collects, logs and values.
    pub output: TurnOutput,
}

/// One instance and where it stands.
pub struct Life<G> {
    guest: G,
    outcome: Option<Outcome>,
}

impl<G: Guest> Life<G> {
    /// A life before its first event, or where a memory image of the guest was taken.
    #[must_use]
    pub fn new(guest: G) -> Self {
        Self { guest, outcome: None }
    }

    /// How the run ended, if it did.
    #[must_use]
    pub fn outcome(&self) -> Option<&Outcome> {
        self.outcome.as_ref()
    }

    pub fn guest(&mut self) -> &mut G {
        &mut self.guest
    }

    #[must_use]
    pub fn guest_ref(&self) -> &G {
        &self.guest
    }

    /// Whether the guest waits with nothing open: nobody could ever wake it.
    pub fn is_deadlocked(&mut self) -> bool {
        self.outcome.is_none() && self.guest.cursor().open().is_empty()
    }

    /// Applies one inbound event as a turn: hands it over if it concerns the guest, then what waits in the channels,
    /// until the guest waits and nothing more is to be handed over.
    pub fn turn(&mut self, event: &HistoryEvent, mode: Mode) -> Result<TurnOutput, TurnError> {
        let result = self.run_turn(event, mode);
        let output = self.guest.cursor().end_turn();
        result.map(|()| output)
    }

    fn run_turn(&mut self, event: &HistoryEvent, mode: Mode) -> Result<(), TurnError> {
        if self.outcome.is_some() {
            return Ok(());
        }
        let mut handed = self.guest.cursor().apply(event, mode);
        if let Attributes::ExecutionStarted(start) = &event.body.attributes {
            let state = self.guest.start(&start.export, &start.input);
            self.settle(state)?;
            handed = self.next_delivery();
        }
        while let Some(event) = handed {
            let state = self.guest.resume(event);
            self.settle(state)?;
            handed = self.next_delivery();
        }
        if mode == Mode::Live { self.expect_no_commands_left() } else { Ok(()) }
    }

    fn next_delivery(&mut self) -> Option<crate::guest::GuestEvent> {
        if self.outcome.is_some() { None } else { self.guest.cursor().next_delivery() }
    }

    fn settle(&mut self, state: Result<GuestState, GuestFault>) -> Result<(), TurnError> {
        match state {
            Ok(GuestState::Waiting) => Ok(()),
            Ok(GuestState::Done(outcome)) => {
                self.outcome = Some(outcome);
                Ok(())
            }
            Err(fault) => Err(match self.guest.cursor().take_divergence() {
                Some(divergence) => TurnError::Diverged(divergence),
                None => TurnError::Fault(fault),
            }),
        }
    }

    fn expect_no_commands_left(&mut self) -> Result<(), TurnError> {
        let did = match &self.outcome {
            Some(outcome) => format!("no further command: it {}", outcome.describe()),
            None => "no further command: it waits".to_owned(),
        };
        match self.guest.cursor().commands_left(did) {
            Some(divergence) => Err(TurnError::Diverged(Box::new(divergence))),
            None => Ok(()),
        }
    }

    /// Relives a history: its recorded commands are loaded and its inbound events applied, up to what the record
    /// covers and `until` (an event id). What lies beyond is the caller's, as live turns.
    pub fn relive(&mut self, events: &[HistoryEvent], record: Record, until: u64) -> Result<Relived, TurnError> {
        self.relive_observed(events, record, until, |_, _| {})
    }

    /// As [`Self::relive`], and tells `seen` the output of each turn.
    pub fn relive_observed(
        &mut self,
        events: &[HistoryEvent],
        record: Record,
        until: u64,
        seen: impl FnMut(&HistoryEvent, &TurnOutput),
    ) -> Result<Relived, TurnError> {
        if !matches!(events.first().map(|e| &e.body.attributes), Some(Attributes::ExecutionStarted(_))) {
            return Err(TurnError::Unusable("it does not begin with ExecutionStarted".to_owned()));
        }
        self.catch_up(events, record, until, seen)
    }

    /// Relives a tail: the events behind those that a laid memory image covers.
    pub fn relive_tail(&mut self, tail: &[HistoryEvent], record: Record, until: u64) -> Result<Relived, TurnError> {
        self.catch_up(tail, record, until, |_, _| {})
    }

    fn catch_up(
        &mut self,
        events: &[HistoryEvent],
        record: Record,
        until: u64,
        mut seen: impl FnMut(&HistoryEvent, &TurnOutput),
    ) -> Result<Relived, TurnError> {
        self.guest.cursor().load(events);
        let (mode, covered) = match record {
            Record::Complete { applied_through, .. } => (Mode::Replay, applied_through.min(until)),
            Record::CutOff => (Mode::Lenient, until),
        };
        let mut relived = Relived::default();
        for event in events.iter().filter(|e| e.event_type().is_inbound()).take_while(|e| e.event_id <= covered) {
            let output = self.turn(event, mode)?;
            seen(event, &output);
            relived.output.extend(output);
            relived.events += 1;
        }
        if until >= events.last().map_or(0, |e| e.event_id) {
            self.check_end(events, record)?;
        }
        Ok(relived)
    }

    /// After the whole record was relived: no command may be left, the numbers must agree, and so must the end.
    fn check_end(&mut self, events: &[HistoryEvent], record: Record) -> Result<(), TurnError> {
        self.expect_no_commands_left()?;
        let issued = self.guest.cursor().issued();
        let after_event = self.guest.cursor().last_applied();
        let diverged = |history: String, code: String| {
            Err(TurnError::Diverged(Box::new(Divergence {
                command_no: issued,
                event_id: None,
                after_event,
                history,
                code,
                last_agreed: issued,
            })))
        };
        if let Record::Complete { commands, .. } = record
            && commands != issued
        {
            return diverged(format!("{commands} commands in all"), format!("{issued} commands"));
        }
        let Some(last) = events.last() else {
            return Ok(());
        };
        let code = self.outcome.as_ref().map_or("waiting".to_owned(), Outcome::describe);
        if matches!(last.body.attributes, Attributes::ExecutionTerminated(_))
            || same_end(&last.body.attributes, self.outcome.as_ref())
        {
            return Ok(());
        }
        if record == Record::CutOff && !last.event_type().is_terminal() {
            return Ok(());
        }
        diverged(describe_end(&last.body.attributes), code)
    }
}

/// Whether a history's last event and a life's outcome say the same.
fn same_end(last: &Attributes, outcome: Option<&Outcome>) -> bool {
    match (last, outcome) {
        (Attributes::ExecutionCompleted(a), Some(Outcome::Completed(b))) => a.result.same_value(b.as_str()),
        (Attributes::ExecutionFailed(a), Some(Outcome::Failed(b))) => {
            a.failure.code == b.code && a.failure.kind == b.kind
        }
        (Attributes::ExecutionCanceled(a), Some(Outcome::Failed(b))) => {
            b.kind == FailureKind::Canceled && a.failure.code == b.code
        }
        (Attributes::ExecutionContinuedAsNew(a), Some(Outcome::ContinuedAsNew { input, .. })) => {
            a.input.same_value(input.as_str())
        }
        (other, None) => !other.event_type().is_terminal(),
        _ => false,
    }
}

fn describe_end(last: &Attributes) -> String {
    match last {
        Attributes::ExecutionCompleted(a) => format!("completed with {}", a.result),
        Attributes::ExecutionFailed(a) => format!("failed with {}", a.failure),
        Attributes::ExecutionCanceled(a) => format!("canceled with {}", a.failure),
        Attributes::ExecutionContinuedAsNew(a) => format!("continued as new with {}", a.input),
        _ => "an open run".to_owned(),
    }
}
