//! The one statement that appends a batch, made of the parts that the batch has.
//!
//! The first two parts change and create execution rows, each under its item's conditions; `done` are the runs whose row
//! was written. Every other part writes what belongs to those runs and to no other: an item is in the store whole or not
//! at all, and one that is refused is merely absent from the answer. Parts read arrays, one row of a table an element;
//! `?` is the next parameter. `IN .. IS TRUE` keeps the test a hashed look-up, whatever the planner thinks of joins.

use std::{collections::HashMap, fmt::Write as _, sync::Arc};

use parking_lot::Mutex;
use relive_core::ports::KEPT_IMAGES;

macro_rules! put_tasks {
    () => {
        "ON CONFLICT (shard, key) DO UPDATE SET event_id = excluded.event_id, attempt = excluded.attempt, \
         due_at = excluded.due_at, scheduled_at = excluded.scheduled_at, claim_secret = excluded.claim_secret, \
         claimed_at = excluded.claimed_at, flags = excluded.flags, queue = excluded.queue, \
         claim_worker = excluded.claim_worker, details = excluded.details, options = excluded.options, \
         exhausted = excluded.exhausted"
    };
}

const _: () = assert!(KEPT_IMAGES == 5, "a new image leaves room for four others");

/// New images as `new_images`, up to their condition.
macro_rules! images {
    () => {
        "new_images AS MATERIALIZED (SELECT n.key, n.bytes FROM unnest(?::int8[], ?::bytea[]) AS n(key, bytes)"
    };
}
pub(super) use images;

/// Keeps `new_images`, and deletes those of the others that are too many beside them (the statement does not see what it
/// inserts): with a new one, four more are kept.
macro_rules! put_images {
    () => {
        "), put_images AS (INSERT INTO images (key, bytes) SELECT key, bytes FROM new_images \
         ON CONFLICT (key) DO UPDATE SET bytes = excluded.bytes), \
         old_images AS (DELETE FROM images o USING new_images n WHERE o.key BETWEEN ((n.key >> 24) << 24) AND ( \
         SELECT k.key FROM images k WHERE k.key BETWEEN ((n.key >> 24) << 24) AND ((n.key >> 24) << 24 | 16777215) \
         AND k.key <> n.key ORDER BY k.key DESC OFFSET 4 LIMIT 1) AND o.key <> n.key)"
    };
}
pub(super) use put_images;

/// What a batch may have, in the order of its parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Part {
    Updated,
    Created,
    Events,
    /// Events whose bytes are kept apart.
    LargeEvents,
    /// Tasks that the host runs itself: nothing but the first columns.
    PlainTasks,
    Tasks,
    RemovedTasks,
    Timers,
    RemovedTimers,
    Keys,
    Published,
    Logs,
    Images,
    Outbox,
    Ended,
}

impl Part {
    pub(super) const ALL: [Self; 15] = [
        Self::Updated,
        Self::Created,
        Self::Events,
        Self::LargeEvents,
        Self::PlainTasks,
        Self::Tasks,
        Self::RemovedTasks,
        Self::Timers,
        Self::RemovedTimers,
        Self::Keys,
        Self::Published,
        Self::Logs,
        Self::Images,
        Self::Outbox,
        Self::Ended,
    ];

    pub(super) fn bit(self) -> u32 {
        1 << self as u32
    }

    fn sql(self) -> &'static str {
        match self {
            Self::Updated => UPDATED,
            Self::Created => CREATED,
            Self::Events => EVENTS,
            Self::LargeEvents => LARGE_EVENTS,
            Self::PlainTasks => concat!(
                "plain_tasks AS (INSERT INTO tasks (key, event_id, attempt, due_at, scheduled_at) \
                 SELECT n.* FROM unnest(?::int8[], ?::int8[], ?::int8[], ?::int8[], ?::int8[]) \
                 AS n(key, event_id, attempt, due_at, scheduled_at) WHERE ((n.key >> 24) IN (SELECT key FROM done)) IS TRUE ",
                put_tasks!(),
                ")"
            ),
            Self::Tasks => concat!(
                "put_tasks AS (INSERT INTO tasks (key, event_id, attempt, due_at, scheduled_at, claim_secret, claimed_at, \
                 flags, queue, claim_worker, details, options, exhausted) SELECT n.* FROM unnest(?::int8[], ?::int8[], ?::int8[], \
                 ?::int8[], ?::int8[], ?::int8[], ?::int8[], ?::int2[], ?::text[], ?::text[], ?::text[], ?::text[], ?::text[]) \
                 AS n(key, event_id, attempt, due_at, scheduled_at, claim_secret, claimed_at, flags, queue, claim_worker, \
                 details, options, exhausted) WHERE ((n.key >> 24) IN (SELECT key FROM done)) IS TRUE ",
                put_tasks!(),
                ")"
            ),
            Self::RemovedTasks => {
                "removed_tasks AS (DELETE FROM tasks t USING unnest(?::int8[]) AS n(key) \
                 WHERE t.shard = ((n.key >> 24) & 255)::int2 AND t.key = n.key \
                 AND ((n.key >> 24) IN (SELECT key FROM done)) IS TRUE)"
            }
            Self::Timers => {
                "put_timers AS (INSERT INTO timers (key, deadline) SELECT n.* FROM unnest(?::int8[], ?::int8[]) \
                 AS n(key, deadline) WHERE ((n.key >> 24) IN (SELECT key FROM done)) IS TRUE \
                 ON CONFLICT (key) DO UPDATE SET deadline = excluded.deadline)"
            }
            Self::RemovedTimers => {
                "removed_timers AS (DELETE FROM timers t USING unnest(?::int8[]) AS n(key) WHERE t.key = n.key \
                 AND ((n.key >> 24) IN (SELECT key FROM done)) IS TRUE)"
            }
            Self::Keys => {
                "put_keys AS (INSERT INTO inbound_keys (run, key) SELECT n.* FROM unnest(?::int8[], ?::text[]) \
                 AS n(run, key) WHERE (n.run IN (SELECT key FROM done)) IS TRUE)"
            }
            Self::Published => {
                "put_published AS (INSERT INTO published (run, event_id, key, value) \
                 SELECT n.* FROM unnest(?::int8[], ?::int8[], ?::text[], ?::text[]) AS n(run, event_id, key, value) \
                 WHERE (n.run IN (SELECT key FROM done)) IS TRUE \
                 ON CONFLICT (run, key) DO UPDATE SET event_id = excluded.event_id, value = excluded.value)"
            }
            Self::Logs => {
                "put_logs AS (INSERT INTO logs (key, at, level, message, fields) \
                 SELECT n.* FROM unnest(?::int8[], ?::int8[], ?::int2[], ?::bytea[], ?::text[]) \
                 AS n(key, at, level, message, fields) WHERE ((n.key >> 24) IN (SELECT key FROM done)) IS TRUE)"
            }
            Self::Images => {
                concat!(images!(), " WHERE ((n.key >> 24) IN (SELECT key FROM done)) IS TRUE", put_images!())
            }
            Self::Outbox => {
                "put_outbox AS (INSERT INTO outbox (key, last) SELECT n.* FROM unnest(?::int8[], ?::int8[]) AS n(key, last) \
                 WHERE ((n.key >> 24) IN (SELECT key FROM done)) IS TRUE)"
            }
            Self::Ended => ENDED,
        }
    }
}

/// An item's row. An owner's epoch and numbers must not be behind; an outside writer gives zeros, and the row keeps its
/// owner's. `status` is set always: what is set to what it was touches no index. The key is looked up by a scalar
/// subquery: an `EXISTS` might read all keys into a hash.
const UPDATED: &str = "updated AS (UPDATE executions x SET epoch = greatest(x.epoch, n.epoch), last_event_id = n.last_event_id, \
    last_timestamp = n.last_timestamp, last_inbound_id = n.last_inbound_id, \
    applied_through = greatest(x.applied_through, n.applied_through), \
    command_count = greatest(x.command_count, n.command_count), history_bytes = n.history_bytes, log_count = n.log_count, \
    crashes = CASE WHEN n.reset THEN 0 ELSE x.crashes END, closed_at = n.closed_at, status = n.status, \
    last_hash = n.last_hash, blocked = n.blocked, digest = coalesce(n.digest, x.digest) \
    FROM unnest(?::int8[], ?::int8[], ?::bool[], ?::int8[], ?::int8[], ?::int8[], ?::int8[], ?::int8[], ?::int8[], ?::int8[], \
    ?::int8[], ?::int8[], ?::bool[], ?::int8[], ?::int2[], ?::bytea[], ?::text[], ?::text[], ?::bytea[]) AS n(key, expected, owner, epoch, \
    last_event_id, last_timestamp, last_inbound_id, applied_through, command_count, history_bytes, logs_before, log_count, \
    reset, closed_at, status, last_hash, blocked, inbound_key, digest) \
    WHERE x.key = n.key AND x.last_event_id = n.expected AND x.log_count = n.logs_before AND x.status < 2 \
    AND (NOT n.owner OR (x.epoch <= n.epoch AND x.applied_through <= n.applied_through \
    AND x.command_count <= n.command_count)) \
    AND (SELECT true FROM inbound_keys k WHERE k.run = n.key AND k.key = n.inbound_key) IS NULL \
    RETURNING x.key)";

/// New runs. A key or workflow id that is taken leaves the run out, and so does an epoch that is over: a new run has no row
/// that could fence. Locked in order, as claims of shards are.
const CREATED: &str = "fences AS MATERIALIZED (SELECT s.shard, s.epoch FROM shards s WHERE s.shard = ANY (?::int2[]) \
    ORDER BY s.shard FOR KEY SHARE), created AS (INSERT INTO executions (key, epoch, last_event_id, last_timestamp, last_inbound_id, \
    applied_through, command_count, history_bytes, log_count, crashes, started_at, closed_at, status, last_hash, run_id, digest, \
    namespace, workflow_id, workflow, blocked, correlation_id) \
    SELECT n.key, n.epoch, n.last_event_id, n.last_timestamp, n.last_inbound_id, n.applied_through, n.command_count, \
    n.history_bytes, n.log_count, 0, n.started_at, n.closed_at, n.status, n.last_hash, n.run_id::uuid, n.digest, n.namespace, \
    n.workflow_id, n.workflow, n.blocked, n.correlation_id \
    FROM unnest(?::int8[], ?::int8[], ?::int8[], ?::int8[], ?::int8[], ?::int8[], ?::int8[], ?::int8[], ?::int8[], ?::int8[], \
    ?::int8[], ?::int2[], ?::bytea[], ?::text[], ?::bytea[], ?::text[], ?::text[], ?::text[], ?::text[], ?::text[]) AS n(key, \
    epoch, last_event_id, last_timestamp, last_inbound_id, applied_through, command_count, history_bytes, log_count, \
    started_at, closed_at, status, last_hash, run_id, digest, namespace, workflow_id, workflow, blocked, correlation_id) \
    JOIN fences f ON f.shard = (n.key & 255)::int2 WHERE (n.epoch = 0 OR f.epoch <= n.epoch)";
/// After the updates: a run may take the workflow id of one that ends in the same statement.
const CREATED_AFTER: &str = " AND (SELECT count(*) FROM updated) >= 0";
const CREATED_END: &str = " ON CONFLICT DO NOTHING RETURNING key)";

const EVENTS: &str = "put_events AS (INSERT INTO events (key, timestamp, version, type, codec, hash, bytes) \
    SELECT n.* FROM unnest(?::int8[], ?::int8[], ?::int4[], ?::int2[], ?::int2[], ?::bytea[], ?::bytea[]) \
    AS n(key, timestamp, version, type, codec, hash, bytes) WHERE ((n.key >> 24) IN (SELECT key FROM done)) IS TRUE)";

/// The codec's mark is that of `artifacts`. What two transactions put at once is put by one of them.
const LARGE_EVENTS: &str = "large AS MATERIALIZED (SELECT n.* FROM unnest(?::int8[], ?::int8[], ?::int4[], ?::int2[], ?::int2[], \
    ?::bytea[], ?::bytea[], ?::bytea[]) AS n(key, timestamp, version, type, codec, hash, digest, bytes) \
    WHERE ((n.key >> 24) IN (SELECT key FROM done)) IS TRUE), \
    put_artifacts AS (INSERT INTO artifacts (digest, kind, event, size, bytes) \
    SELECT DISTINCT ON (digest) digest, 'event', key, length(bytes), bytes FROM large ORDER BY digest, key \
    ON CONFLICT DO NOTHING), \
    put_large AS (INSERT INTO events (key, timestamp, version, type, codec, hash, bytes) \
    SELECT key, timestamp, version, type, codec | 64::int2, hash, digest FROM large)";

/// Runs that end have no work and no images any more.
const ENDED: &str = "ended AS MATERIALIZED (SELECT n.run FROM unnest(?::int8[]) AS n(run) \
    WHERE (n.run IN (SELECT key FROM done)) IS TRUE), \
    ended_tasks AS (DELETE FROM tasks t USING ended n WHERE t.shard = (n.run & 255)::int2 \
    AND t.key BETWEEN (n.run << 24) AND (n.run << 24 | 16777215)), \
    ended_timers AS (DELETE FROM timers t USING ended n WHERE t.key BETWEEN (n.run << 24) AND (n.run << 24 | 16777215)), \
    ended_images AS (DELETE FROM images t USING ended n WHERE t.key BETWEEN (n.run << 24) AND (n.run << 24 | 16777215))";

/// The text for these parts. Its answer are the keys of the runs that were written.
pub(super) fn compose(parts: u32) -> String {
    let has = |part: Part| parts & part.bit() != 0;
    let mut text = String::from("WITH ");
    for part in Part::ALL.into_iter().filter(|part| has(*part)) {
        if part != Part::Updated && (part != Part::Created || has(Part::Updated)) {
            text += ", ";
        }
        text += part.sql();
        if part == Part::Created {
            text += if has(Part::Updated) { CREATED_AFTER } else { "" };
            text += CREATED_END;
        }
        // `done` follows the last of the two that it is made of.
        if (part == Part::Updated && !has(Part::Created)) || part == Part::Created {
            text += match (has(Part::Updated), has(Part::Created)) {
                (true, true) => ", done AS (SELECT key FROM updated UNION ALL SELECT key FROM created)",
                (true, false) => ", done AS (SELECT key FROM updated)",
                _ => ", done AS (SELECT key FROM created)",
            };
        }
    }
    numbered(&(text + " SELECT key FROM done"))
}

/// Numbers the parameters.
pub(super) fn numbered(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 128);
    let mut pieces = text.split('?');
    out += pieces.next().unwrap_or_default();
    for (n, piece) in (1..).zip(pieces) {
        _ = write!(out, "${n}{piece}");
    }
    out
}

/// The texts that were composed before: batches have few shapes.
#[derive(Default)]
pub(super) struct Statements(Mutex<HashMap<u32, Arc<str>>>);

impl Statements {
    pub(super) fn get(&self, parts: u32) -> Arc<str> {
        self.0.lock().entry(parts).or_insert_with(|| compose(parts).into()).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_numbered_through() {
        assert_eq!(numbered("a ? b ?::int8[]"), "a $1 b $2::int8[]");
        let all = compose(Part::ALL.iter().fold(0, |parts, part| parts | part.bit()));
        assert!(all.contains("$93") && !all.contains("$94") && !all.contains('?'), "{all}");
        let events = compose(Part::Created.bit() | Part::Events.bit());
        assert!(
            events.starts_with("WITH fences AS")
                && events.contains(", created AS")
                && events.contains(", done AS (SELECT key FROM created), put_events")
        );
    }
}
