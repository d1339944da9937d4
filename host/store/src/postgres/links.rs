//! Connections: as many as are allowed, taken and given back.
//!
//! Not sqlx's pool: that one asks before every use whether a connection lives, which is a round trip of its own, or does
//! not ask, and hands out dead ones after a restart of the server. Here a connection that fails takes all idle ones
//! with it, so that the next call begins with a new one.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::{Condvar, Mutex};
use sqlx::{
    ConnectOptions, Connection, SqlSafeStr, SqlStr,
    postgres::{PgArguments, PgConnectOptions, PgConnection, PgRow},
};

use super::{
    bridge::Bridge,
    error::{self, Result},
};

/// How long a caller waits for a connection that others have.
const WAIT: Duration = Duration::from_secs(10);
/// How long making a connection may take, its greeting included.
pub(super) const CONNECT: Duration = Duration::from_secs(5);
/// An idle connection is closed after this long: firewalls forget, and servers' memory grows.
const IDLE: Duration = Duration::from_secs(600);

/// What every session of the adapter is set to. Each statement here has an index to go by; a young table has no
/// statistics that would tell the planner, and a plan that is made once may not depend on how full a table is.
const GREETING: &str = "SET plan_cache_mode = force_generic_plan; SET enable_seqscan = off; SET enable_hashjoin = off; \
    SET enable_mergejoin = off; SET jit = off; SET lock_timeout = '5s'; SET statement_timeout = '15s'; \
    SET idle_in_transaction_session_timeout = '5s'; SET default_transaction_isolation = 'read committed'; \
    SET client_min_messages = warning; \
    SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'";

struct Link {
    conn: PgConnection,
    since: Instant,
    generation: u64,
}

#[derive(Default)]
struct State {
    idle: Vec<Link>,
    open: usize,
}

/// Grows when a connection is lost, for all of a store's: older ones are not used again.
#[derive(Clone, Default)]
pub(super) struct Generation(Arc<AtomicU64>);

impl Generation {
    fn now(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }

    fn end(&self) {
        self.0.fetch_add(1, Ordering::AcqRel);
    }
}

pub(super) struct Links {
    bridge: Arc<Bridge>,
    options: PgConnectOptions,
    max: usize,
    /// How long a statement may take, by this side's clock.
    limit: Duration,
    generation: Generation,
    state: Mutex<State>,
    freed: Condvar,
}

/// A connection in use. Given back when dropped; closed if it failed or is inside a transaction.
pub(super) struct Held<'a> {
    links: &'a Links,
    link: Option<Link>,
    in_transaction: bool,
}

/// Makes one connection, set up for the adapter.
pub(super) fn connect(bridge: &Bridge, options: &PgConnectOptions) -> Result<PgConnection> {
    bridge.wait(async {
        let greeted = async {
            let mut conn = options.connect().await?;
            sqlx::raw_sql(GREETING).execute(&mut conn).await?;
            Ok(conn)
        };
        tokio::time::timeout(CONNECT, greeted).await.unwrap_or_else(|_| Err(error::silent()))
    })
}

impl Links {
    pub(super) fn new(
        bridge: Arc<Bridge>,
        options: PgConnectOptions,
        generation: Generation,
        max: usize,
        limit: Duration,
    ) -> Self {
        Self { bridge, options, max: max.max(1), limit, generation, state: Mutex::default(), freed: Condvar::new() }
    }

    /// A connection, a new one if none is idle.
    pub(super) fn take(&self) -> Result<Held<'_>> {
        let mut state = self.state.lock();
        let until = Instant::now() + WAIT;
        loop {
            let generation = self.generation.now();
            while let Some(link) = state.idle.pop() {
                if link.since.elapsed() < IDLE && link.generation == generation {
                    return Ok(Held { links: self, link: Some(link), in_transaction: false });
                }
                state.open -= 1;
                self.close(link);
            }
            if state.open < self.max {
                state.open += 1;
                drop(state);
                // Counted as open from here on: what follows gives the place back if it fails.
                let mut held = Held { links: self, link: None, in_transaction: false };
                let conn = connect(&self.bridge, &self.options).map_err(error::unreached)?;
                held.link = Some(Link { conn, since: Instant::now(), generation });
                return Ok(held);
            }
            if self.freed.wait_until(&mut state, until).timed_out() {
                return Err(sqlx::Error::PoolTimedOut);
            }
        }
    }

    /// One statement that only reads: tried again on another connection if the first was lost.
    pub(super) fn read(&self, sql: impl SqlSafeStr, args: PgArguments) -> Result<Vec<PgRow>> {
        let sql = sql.into_sql_str();
        // The first connection is given back before another is taken.
        let result = self.take()?.rows(sql.clone(), args.clone());
        match result {
            Err(error) if error::is_lost(&error) => self.take()?.rows(sql, args),
            result => result,
        }
    }

    /// One statement in a transaction of its own. Races are run again.
    pub(super) fn write(&self, sql: impl SqlSafeStr, args: PgArguments) -> Result<Vec<PgRow>> {
        let (sql, mut held, mut tries) = (sql.into_sql_str(), self.take()?, 1);
        loop {
            match held.rows(sql.clone(), args.clone()) {
                Err(error) if error::is_race(&error) && tries < MAX_TRIES => tries += 1,
                result => return result,
            }
        }
    }

    /// Closes without a word: the server notices.
    fn close(&self, link: Link) {
        self.bridge.wait(async move { drop(link) });
    }
}

/// How often a transaction that loses races is tried.
pub(super) const MAX_TRIES: usize = 8;

impl Held<'_> {
    /// Runs a statement to its end.
    pub(super) fn rows(&mut self, sql: impl SqlSafeStr, args: PgArguments) -> Result<Vec<PgRow>> {
        let limit = self.links.limit;
        let link = self.link.as_mut().ok_or(sqlx::Error::PoolClosed)?;
        let query = sqlx::query_with::<sqlx::Postgres, _>(sql.into_sql_str(), args);
        let result = self.links.bridge.wait(async {
            tokio::time::timeout(limit, query.fetch_all(&mut link.conn)).await.unwrap_or_else(|_| Err(error::silent()))
        });
        self.heed(result)
    }

    /// Runs statements that have no parameters and whose results do not matter.
    pub(super) fn run(&mut self, sql: &'static str) -> Result<()> {
        let limit = self.links.limit;
        let link = self.link.as_mut().ok_or(sqlx::Error::PoolClosed)?;
        let result = self.links.bridge.wait(async {
            let run = sqlx::raw_sql(SqlStr::from_static(sql)).execute(&mut link.conn);
            tokio::time::timeout(limit, run).await.unwrap_or_else(|_| Err(error::silent()))
        });
        self.heed(result).map(|_| ())
    }

    /// A connection that was lost is closed, and so will be all that are older than its loss: they were lost by the same
    /// cause, most likely.
    fn heed<T>(&mut self, result: Result<T>) -> Result<T> {
        if let Err(error) = &result
            && error::is_lost(error)
            && let Some(link) = self.link.take()
        {
            self.links.generation.end();
            self.links.close(link);
        }
        result
    }

    pub(super) fn begin(&mut self) -> Result<()> {
        self.in_transaction = true;
        self.run("BEGIN")
    }

    pub(super) fn commit(&mut self) -> Result<()> {
        self.run("COMMIT")?;
        self.in_transaction = false;
        Ok(())
    }

    pub(super) fn rollback(&mut self) -> Result<()> {
        self.run("ROLLBACK")?;
        self.in_transaction = false;
        Ok(())
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        let link = self.link.take();
        let mut state = self.links.state.lock();
        match link {
            Some(mut link) if !self.in_transaction && link.generation == self.links.generation.now() => {
                link.since = Instant::now();
                state.idle.push(link);
            }
            link => {
                state.open -= 1;
                drop(state);
                link.into_iter().for_each(|link| self.links.close(link));
            }
        }
        self.links.freed.notify_one();
    }
}

impl Drop for Links {
    fn drop(&mut self) {
        for link in std::mem::take(&mut self.state.get_mut().idle) {
            // In good order, so that the server's log stays quiet.
            let closed =
                self.bridge.wait(async { tokio::time::timeout(Duration::from_secs(1), link.conn.close()).await });
            if !matches!(closed, Ok(Ok(()))) {
                tracing::debug!("a connection to PostgreSQL was not closed in good order");
            }
        }
    }
}
