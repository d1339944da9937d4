//! The four deadlines of an activity: which comes first, of an attempt that waits or of one that a worker has. Pure
//! arithmetic over instants; who asks, and what follows, is the owner's.

use crate::{event::TimeoutType, options::ActivityOptions, time::Timestamp};

/// Where a task stands in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Schedule-to-close counts from here.
    pub scheduled_at: Timestamp,
    /// When the present attempt was, or will be, offered; schedule-to-start counts from here.
    pub due_at: Timestamp,
    /// When it was claimed, and when its worker was last heard of. `None`: it waits.
    pub running: Option<(Timestamp, Timestamp)>,
}

/// The deadline that comes first, with what passes then; of two at the same instant the one that leaves less hope.
/// `None`: the task waits, and may wait for ever.
#[must_use]
pub fn nearest(options: &ActivityOptions, standing: &Standing) -> Option<(Timestamp, TimeoutType)> {
    let close = options.schedule_to_close.map(|d| (standing.scheduled_at.plus(d), TimeoutType::ScheduleToClose));
    let attempt = match standing.running {
        None => [options.schedule_to_start.map(|d| (standing.due_at.plus(d), TimeoutType::ScheduleToStart)), None],
        Some((claimed, heard)) => [
            Some((claimed.plus(options.attempt_nanos()), TimeoutType::StartToClose)),
            options.heartbeat_timeout.map(|d| (heard.plus(d), TimeoutType::Heartbeat)),
        ],
    };
    close.into_iter().chain(attempt.into_iter().flatten()).min_by_key(|(at, _)| *at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn options() -> impl Strategy<Value = ActivityOptions> {
        let time = || prop::option::of(1u64..1_000);
        (time(), time(), time(), time()).prop_map(|(schedule_to_close, schedule_to_start, start_to_close, beat)| {
            ActivityOptions {
                schedule_to_close,
                schedule_to_start,
                start_to_close,
                heartbeat_timeout: beat,
                ..ActivityOptions::default()
            }
        })
    }

    fn standing() -> impl Strategy<Value = Standing> {
        (0u64..1_000, 0u64..1_000, prop::option::of((0u64..1_000, 0u64..1_000))).prop_map(|(at, wait, running)| {
            let due = at + wait;
            let running = running.map(|(a, b)| (Timestamp(due + a), Timestamp(due + a + b)));
            Standing { scheduled_at: Timestamp(at), due_at: Timestamp(due), running }
        })
    }

    proptest! {
        #[test]
        fn the_nearest_is_the_least_of_those_in_force(options in options(), standing in standing()) {
            let all = [
                (TimeoutType::ScheduleToClose, options.schedule_to_close.map(|d| standing.scheduled_at.plus(d))),
                (TimeoutType::ScheduleToStart, match standing.running {
                    None => options.schedule_to_start.map(|d| standing.due_at.plus(d)),
                    Some(_) => None,
                }),
                (TimeoutType::StartToClose, standing.running.map(|(at, _)| at.plus(options.attempt_nanos()))),
                (TimeoutType::Heartbeat, standing.running.and_then(|(_, heard)| {
                    options.heartbeat_timeout.map(|d| heard.plus(d))
                })),
            ];
            let found = nearest(&options, &standing);
            prop_assert_eq!(found.map(|(at, _)| at), all.iter().filter_map(|(_, at)| *at).min());
            if let Some((at, kind)) = found {
                prop_assert!(all.contains(&(kind, Some(at))));
                prop_assert!(at >= standing.scheduled_at);
            }
        }

        /// Another heartbeat never brings a deadline nearer, and only the heartbeat's own moves.
        #[test]
        fn a_heartbeat_only_helps(options in options(), standing in standing(), later in 0u64..1_000) {
            let Some((claimed, heard)) = standing.running else { return Ok(()) };
            let beaten = Standing { running: Some((claimed, heard.plus(later))), ..standing };
            let (before, after) = (nearest(&options, &standing), nearest(&options, &beaten));
            prop_assert!(after.map(|(at, _)| at) >= before.map(|(at, _)| at));
            if before.is_some_and(|(_, kind)| kind != TimeoutType::Heartbeat) {
                prop_assert_eq!(before, after);
            }
        }
    }

    #[test]
    fn one_that_waits_without_a_limit_waits() {
        let standing = Standing { scheduled_at: Timestamp(1), due_at: Timestamp(1), running: None };
        assert_eq!(nearest(&ActivityOptions::default(), &standing), None);
    }
}
