//! What an owner begins with: runs that are taken over, alone or many at once.

use super::{ExecutionRow, StoredImage, TaskRow, TimerRow};
use crate::{codec::StoredEvent, ids::RunKey};

/// A run's row and its open tasks and timers; none of these if it has ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Taken {
    pub row: ExecutionRow,
    pub tasks: Vec<TaskRow>,
    pub timers: Vec<TimerRow>,
}

/// A run that is to be taken together with others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    pub run: RunKey,
    pub epoch: u64,
    /// What wakes its guest is wanted, too: the last event that an image at hand covers, 0 if there is none.
    pub guest: Option<u64>,
}

/// Events of a run that come along with it at most, beside its first.
pub const PREPARED_EVENTS: usize = 32;
/// Bytes of an event that comes along at most.
pub const PREPARED_EVENT_BYTES: usize = 8 << 10;
/// Bytes of an image that comes along at most.
pub const PREPARED_IMAGE_BYTES: usize = 64 << 10;

/// A run that was taken together with others.
#[derive(Clone, Debug, PartialEq)]
pub struct Prepared {
    pub taken: Taken,
    /// Absent unless it was wanted, and if the run has ended.
    pub kit: Option<WakingKit>,
}

/// What was read to wake a guest: as much as fits. What is missing is to be read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WakingKit {
    /// The last event that the image at hand covers, else the newest stored one; 0: there is none.
    pub covered: u64,
    /// The newest stored image, if none was at hand and it is small.
    pub image: Option<StoredImage>,
    /// The first event and some of those behind the image, by their ids; large ones are left out.
    pub events: Vec<StoredEvent>,
}

impl WakingKit {
    /// The first event.
    #[must_use]
    pub fn first(&self) -> Option<&StoredEvent> {
        self.events.first().filter(|e| e.event_id == 1)
    }

    /// The events behind `after` up to `last`, if all of them are here.
    #[must_use]
    pub fn behind(&self, after: u64, last: u64) -> Option<&[StoredEvent]> {
        let wanted = usize::try_from(last.checked_sub(after)?).ok()?;
        let from = self.events.partition_point(|e| e.event_id <= after);
        let events = self.events[from..].get(..wanted)?;
        (after + 1..).zip(events).all(|(id, event)| event.event_id == id).then_some(events)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Timestamp;

    #[test]
    fn only_what_is_whole_is_given() {
        let event = |event_id| StoredEvent {
            event_id,
            timestamp: Timestamp(0),
            event_type: 1,
            codec: 1,
            event_version: 1,
            bytes: Vec::new().into(),
            hash: [0; 32],
        };
        let kit = |ids: &[u64]| WakingKit { events: ids.iter().copied().map(event).collect(), ..WakingKit::default() };
        let ids = |kit: &WakingKit, after, last| {
            kit.behind(after, last).map(|events| events.iter().map(|e| e.event_id).collect::<Vec<_>>())
        };
        let tail = kit(&[1, 7, 8, 10]);
        assert_eq!(ids(&tail, 6, 8), Some(vec![7, 8]));
        assert_eq!(ids(&tail, 8, 8), Some(vec![]));
        assert_eq!(ids(&tail, 6, 10), None, "one is left out");
        assert_eq!(ids(&tail, 8, 9), None, "the next is another");
        assert_eq!(ids(&tail, 9, 11), None, "it ends early");
        assert_eq!(ids(&tail, 0, 8), None);
        assert_eq!(ids(&tail, 9, 8), None, "the row is older than the image");
        assert_eq!(tail.first().map(|e| e.event_id), Some(1));
        assert_eq!(kit(&[2, 3]).first(), None);
        assert_eq!(ids(&kit(&[1, 2, 3]), 0, 3), Some(vec![1, 2, 3]));
    }
}
