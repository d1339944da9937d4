//! Many runs taken over in one round trip, with what wakes their guests: the other side of group commit.

use std::collections::{HashMap, hash_map::Entry};

use relive_core::{
    RunKey,
    codec::StoredEvent,
    ports::{
        ExecutionRow, PREPARED_EVENT_BYTES, PREPARED_EVENTS, PREPARED_IMAGE_BYTES, Prepared, StoredImage, Taken,
        TaskRow, TimerRow, WakingKit, Wanted,
    },
};
use sqlx::{Row, postgres::PgRow};

use super::{
    PostgresStore,
    error::{Result, unreadable},
    heads::Known,
    rows::{self, Args, key_of},
};
use crate::{artifacts::APART, columns::split_key};

/// Runs of one statement: what it answers is megabytes at most.
pub(super) const AT_ONCE: usize = 128;

const _: () = assert!(PREPARED_EVENTS == 32 && PREPARED_EVENT_BYTES == 8192 && PREPARED_IMAGE_BYTES == 65536);
const _: () = assert!(APART == 64, "events whose bytes are kept apart are those from codec 64 on");

/// As `TAKE`: a row that has its epoch is only read, one that was written since the statement began is left alone. So is
/// one that somebody has locked: nobody waits here for one run among many. The rest are a run's tasks, its timers, and one
/// row with its newest image and its events.
pub(super) const TAKE_TOGETHER: &str = concat!(
    "WITH wanted AS MATERIALIZED (SELECT n.* FROM unnest($1::int8[], $2::int8[], $3::bool[], $4::int8[]) \
     AS n(run, to_epoch, guest, at_hand)), \
     seen AS MATERIALIZED (SELECT x.key AS run, x.xmin AS version, w.to_epoch, w.guest, w.at_hand \
     FROM wanted w JOIN executions x ON x.key = w.run WHERE x.epoch < w.to_epoch AND x.status < 2), \
     free AS MATERIALIZED (SELECT x.key AS run FROM executions x WHERE x.key = ANY (ARRAY(SELECT run FROM seen)) \
     ORDER BY x.key FOR NO KEY UPDATE SKIP LOCKED), \
     stamped AS (UPDATE executions x SET epoch = s.to_epoch FROM seen s WHERE x.key = s.run AND x.xmin = s.version \
     AND (s.run IN (SELECT run FROM free)) IS TRUE RETURNING x.*, s.guest, s.at_hand), \
     taken AS (SELECT ",
    rows::execution_columns!(),
    ", guest, at_hand FROM stamped UNION ALL SELECT ",
    rows::execution_columns!(),
    ", guest, at_hand FROM wanted w JOIN executions x ON x.key = w.run \
     WHERE (w.run IN (SELECT key FROM stamped)) IS NOT TRUE) \
     SELECT taken.*, rest.* FROM taken LEFT JOIN LATERAL (SELECT ",
    rows::task_columns!(),
    ", NULL::int8 AS covered, NULL::bytea AS image, NULL::int8[] AS keys, NULL::int8[] AS times, NULL::int4[] AS versions, \
     NULL::int2[] AS types, NULL::int2[] AS codecs, NULL::bytea[] AS hashes, NULL::bytea[] AS bytes \
     FROM tasks WHERE shard = (taken.key & 255)::int2 AND key BETWEEN (taken.key << 24) AND (taken.key << 24 | 16777215) \
     UNION ALL SELECT key, NULL, NULL, deadline, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, \
     NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL \
     FROM timers WHERE key BETWEEN (taken.key << 24) AND (taken.key << 24 | 16777215) \
     UNION ALL SELECT NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, \
     c.covered, CASE WHEN length(i.bytes) <= 65536 THEN i.bytes END, e.keys, e.times, e.versions, e.types, e.codecs, e.hashes, \
     e.bytes FROM (SELECT 1) one LEFT JOIN LATERAL (SELECT key, bytes FROM images WHERE taken.at_hand = 0 \
     AND key BETWEEN (taken.key << 24) AND (taken.key << 24 | 16777215) ORDER BY key DESC LIMIT 1) i ON true \
     CROSS JOIN LATERAL (SELECT coalesce(i.key & 16777215, taken.at_hand) AS covered) c \
     CROSS JOIN LATERAL (SELECT array_agg(v.key) AS keys, array_agg(v.timestamp) AS times, array_agg(v.version) AS versions, \
     array_agg(v.type) AS types, array_agg(v.codec) AS codecs, array_agg(v.hash) AS hashes, array_agg(v.bytes) AS bytes \
     FROM ((SELECT * FROM events WHERE c.covered > 0 AND key = (taken.key << 24 | 1)) UNION ALL \
     (SELECT * FROM events WHERE key > (taken.key << 24 | c.covered) AND key <= (taken.key << 24 | 16777215) \
     ORDER BY key LIMIT 32)) v WHERE v.codec < 64 AND length(v.bytes) <= 8192) e WHERE taken.guest) rest ON taken.status < 2"
);

/// Where the columns are.
const GUEST: usize = 21;
const WORK: usize = 23;
const KIT: usize = 36;

/// A run in the making.
struct Found {
    row: ExecutionRow,
    log_count: u64,
    tasks: Vec<TaskRow>,
    timers: Vec<TimerRow>,
    kit: Option<WakingKit>,
}

impl PostgresStore {
    pub(super) fn take_runs(&self, wanted: &[Wanted]) -> Result<Vec<Option<Prepared>>> {
        let mut answers = Vec::with_capacity(wanted.len());
        for wanted in wanted.chunks(AT_ONCE) {
            self.take_some(wanted, &mut answers)?;
        }
        Ok(answers)
    }

    fn take_some(&self, wanted: &[Wanted], answers: &mut Vec<Option<Prepared>>) -> Result<()> {
        let runs: Vec<i64> = wanted.iter().map(|w| key_of(w.run)).collect();
        let epochs: Vec<i64> = wanted.iter().map(|w| w.epoch.cast_signed()).collect();
        let guests: Vec<bool> = wanted.iter().map(|w| w.guest.is_some()).collect();
        let at_hand: Vec<i64> = wanted.iter().map(|w| w.guest.unwrap_or(0).cast_signed()).collect();
        self.count_round_trip();
        let args = Args::default().add(runs).add(epochs).add(guests).add(at_hand).done()?;
        let mut found: HashMap<RunKey, Found> = HashMap::with_capacity(wanted.len());
        for row in self.writes.write(TAKE_TOGETHER, args)? {
            take_in(&mut found, &row)?;
        }
        let mut heads = self.heads.lock();
        answers.extend(wanted.iter().map(|wanted| {
            let Found { row, log_count, mut tasks, mut timers, kit } = found.remove(&wanted.run)?;
            if row.status.is_open() {
                if row.epoch != wanted.epoch {
                    return None;
                }
                heads.put(wanted.run, Known::of(&row, log_count));
            }
            tasks.sort_by_key(|t| t.command_no);
            timers.sort_by_key(|t| t.command_no);
            Some(Prepared { taken: Taken { row, tasks, timers }, kit })
        }));
        Ok(())
    }
}

/// Takes a row of the answer in.
fn take_in(found: &mut HashMap<RunKey, Found>, row: &PgRow) -> Result<()> {
    let run = RunKey(rows::number(row, 0)?);
    let found = match found.entry(run) {
        Entry::Occupied(known) => known.into_mut(),
        Entry::Vacant(place) => {
            let (row, log_count) = rows::execution(row)?;
            place.insert(Found { row, log_count, tasks: Vec::new(), timers: Vec::new(), kit: None })
        }
    };
    match row.try_get::<Option<i64>, _>(WORK)? {
        Some(_) if row.try_get::<Option<i64>, _>(WORK + 1)?.is_some() => found.tasks.push(rows::task_at(row, WORK)?),
        Some(key) => {
            let (run, command_no) = split_key(key);
            found.timers.push(TimerRow { deadline: rows::timestamp(row, WORK + 3)?, run, command_no });
        }
        // Of a run that has ended nothing is told.
        None if row.try_get(GUEST)? && row.try_get::<Option<i64>, _>(KIT)?.is_some() => {
            found.kit = Some(kit(run, row)?);
        }
        None => {}
    }
    Ok(())
}

fn kit(run: RunKey, row: &PgRow) -> Result<WakingKit> {
    let covered = rows::number(row, KIT)?;
    let bytes: Option<&[u8]> = row.try_get(KIT + 1)?;
    let image = bytes.map(|bytes| StoredImage { run, event_id: covered, bytes: bytes.into() });
    Ok(WakingKit { covered, image, events: events(row, KIT + 2)? })
}

/// Reads events whose columns are arrays, from column `at` on.
fn events(row: &PgRow, at: usize) -> Result<Vec<StoredEvent>> {
    let Some(keys) = row.try_get::<Option<Vec<i64>>, _>(at)? else { return Ok(Vec::new()) };
    let (times, versions): (Vec<i64>, Vec<i32>) = (row.try_get(at + 1)?, row.try_get(at + 2)?);
    let (types, codecs): (Vec<i16>, Vec<i16>) = (row.try_get(at + 3)?, row.try_get(at + 4)?);
    let (hashes, bytes): (Vec<Vec<u8>>, Vec<Vec<u8>>) = (row.try_get(at + 5)?, row.try_get(at + 6)?);
    let lengths = [times.len(), versions.len(), types.len(), codecs.len(), hashes.len(), bytes.len()];
    if lengths.iter().any(|n| *n != keys.len()) {
        return Err(unreadable("arrays of different lengths"));
    }
    let numbers = keys.into_iter().zip(times).zip(versions).zip(types).zip(codecs);
    let event = |((((((key, time), version), kind), codec), hash), bytes): EventColumns| {
        Ok(StoredEvent {
            event_id: split_key(key).1,
            timestamp: relive_core::Timestamp(within(time)?),
            event_type: within(kind.into())?,
            codec: within(codec.into())?,
            event_version: within(version.into())?,
            bytes: bytes.into(),
            hash: hash.try_into().map_err(|_| unreadable("a hash that is not 32 bytes long"))?,
        })
    };
    numbers.zip(hashes).zip(bytes).map(event).collect()
}

type EventColumns = ((((((i64, i64), i32), i16), i16), Vec<u8>), Vec<u8>);

fn within<T: TryFrom<i64>>(value: i64) -> Result<T> {
    T::try_from(value).map_err(|_| unreadable(format!("the number {value}")))
}
