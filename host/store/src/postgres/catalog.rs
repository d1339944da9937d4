//! The catalog in PostgreSQL. Whatever changes what runs under a name moves the catalog's revision, which hosts see with
//! their beats; its row is also the lock that deployments take.

use relive_core::{
    Digest, Namespace, Timestamp,
    ports::{
        Activation, ActivityRow, Catalog, ComponentMeta, Implementation, PreflightRow, QueueLimits, QueueRow,
        RateLimit, Standing, StoreError, StoreErrorKind, VersionRow,
    },
};
use sqlx::{Row, postgres::PgRow};

use super::{
    PostgresStore,
    error::{Result, store_error, unreadable},
    rows::{self, Args},
    versions,
};
use crate::columns::time;

const PUT_COMPONENT: &str = "INSERT INTO components (digest, size, added_at, inspection, bytes) VALUES ($1, $2, $3, $4, $5) \
    ON CONFLICT DO NOTHING";
const COMPONENT: &str = "SELECT bytes FROM components WHERE digest = $1";
const COMPONENT_META: &str = "SELECT digest, size, inspection, added_at FROM components WHERE digest = $1";
const PUT_ACTIVITY: &str = "WITH moved AS (UPDATE meta SET value = value + 1 WHERE key = 'catalog_revision') \
    INSERT INTO activities (namespace, name, kind, digest, config, deployed_at) VALUES ($1, $2, $3, $4, $5, $6) \
    ON CONFLICT (namespace, name) DO UPDATE SET kind = excluded.kind, digest = excluded.digest, config = excluded.config, \
    deployed_at = excluded.deployed_at";
const ACTIVITY: &str =
    "SELECT name, kind, digest, config, deployed_at FROM activities WHERE namespace = $1 AND name = $2";
const ACTIVITIES: &str =
    "SELECT name, kind, digest, config, deployed_at FROM activities WHERE namespace = $1 ORDER BY name";

const PUT_QUEUE: &str = "WITH moved AS (UPDATE meta SET value = value + 1 WHERE key = 'catalog_revision') \
    INSERT INTO task_queues (namespace, name, rate, burst, concurrency) VALUES ($1, $2, $3, $4, $5) \
    ON CONFLICT (namespace, name) DO UPDATE SET rate = excluded.rate, burst = excluded.burst, \
    concurrency = excluded.concurrency";
const REMOVE_QUEUE: &str = "WITH moved AS (UPDATE meta SET value = value + 1 WHERE key = 'catalog_revision') \
    DELETE FROM task_queues WHERE namespace = $1 AND name = $2";
const QUEUES: &str = "SELECT namespace, name, rate, burst, concurrency FROM task_queues ORDER BY namespace, name";

fn queue(row: &PgRow) -> Result<QueueRow> {
    let rate = match row.try_get::<Option<f64>, _>(2)? {
        Some(per_second) => Some(RateLimit { per_second, burst: rows::small(row, 3)? }),
        None => None,
    };
    let concurrency = row.try_get::<Option<i64>, _>(4)?.map(|_| rows::small(row, 4)).transpose()?;
    let limits = QueueLimits { rate, concurrency };
    limits.check().map_err(|e| unreadable(format!("a task queue's limits: {e}")))?;
    Ok(QueueRow { namespace: rows::namespace(row, 0)?, name: rows::text(row, 1)?.into(), limits })
}

fn activity(row: &PgRow) -> Result<ActivityRow> {
    let config = rows::json(row, 3)?;
    let implementation = match rows::text(row, 1)? {
        "wasm" => Implementation::Wasm { digest: rows::digest(row, 2)?, grants: config },
        "http" => Implementation::Http { config },
        kind => return Err(unreadable(format!("the activity kind {kind:?}"))),
    };
    Ok(ActivityRow { name: rows::text(row, 0)?.into(), implementation, deployed_at: rows::timestamp(row, 4)? })
}

impl PostgresStore {
    pub(super) fn put(&self, sql: &'static str, args: Args) -> std::result::Result<(), StoreError> {
        self.count_round_trip();
        let put = || self.writes.write(sql, args.done()?).map(|_| ());
        let done: Result<()> = put();
        done.map_err(|e| store_error(&e))
    }
}

impl Catalog for PostgresStore {
    fn put_component(&self, meta: &ComponentMeta, bytes: &[u8]) -> std::result::Result<(), StoreError> {
        crate::check::component(meta, bytes)?;
        let args = Args::default().add(meta.digest.0.as_slice()).add(meta.size.cast_signed()).add(time(meta.added_at));
        self.put(PUT_COMPONENT, args.add(meta.inspection.as_str()).add(bytes))
    }

    fn component(&self, digest: &Digest) -> std::result::Result<Option<Vec<u8>>, StoreError> {
        let args = Args::default().add(digest.0.as_slice());
        match self.one(COMPONENT, args, |row| rows::bytes(row, 0).map(<[u8]>::to_vec))? {
            Some(bytes) if Digest::of(&bytes) != *digest => {
                let message =
                    format!("the stored bytes of component {digest} were changed; restore the database from a backup");
                Err(StoreError::new(StoreErrorKind::Corrupt, message))
            }
            bytes => Ok(bytes),
        }
    }

    fn component_meta(&self, digest: &Digest) -> std::result::Result<Option<ComponentMeta>, StoreError> {
        self.one(COMPONENT_META, Args::default().add(digest.0.as_slice()), |row| {
            Ok(ComponentMeta {
                digest: rows::digest(row, 0)?,
                size: rows::number(row, 1)?,
                inspection: rows::json(row, 2)?,
                added_at: rows::timestamp(row, 3)?,
            })
        })
    }

    fn add_version(&self, namespace: &Namespace, row: &VersionRow) -> std::result::Result<VersionRow, StoreError> {
        self.in_turn(|link| versions::add(link, namespace.as_str(), row))
    }

    fn activate(
        &self,
        namespace: &Namespace,
        last: u64,
        next: &Activation,
    ) -> std::result::Result<Option<Activation>, StoreError> {
        self.in_turn(|link| versions::activate(link, namespace.as_str(), last, next))
    }

    fn delete_version(
        &self,
        namespace: &Namespace,
        workflow: &str,
        version: u32,
        last: u64,
        at: Timestamp,
    ) -> std::result::Result<bool, StoreError> {
        self.in_turn(|link| versions::delete(link, namespace.as_str(), workflow, version, last, at))
    }

    fn standing(&self, namespace: &Namespace, workflow: &str) -> std::result::Result<Option<Standing>, StoreError> {
        self.read_standing(namespace, workflow)
    }

    fn activations(
        &self,
        namespace: &Namespace,
        workflow: &str,
        limit: usize,
    ) -> std::result::Result<Vec<Activation>, StoreError> {
        self.read_activations(namespace, workflow, limit)
    }

    fn put_preflight(
        &self,
        namespace: &Namespace,
        row: &PreflightRow,
        keep: usize,
    ) -> std::result::Result<(), StoreError> {
        self.write_preflight(namespace, row, keep)
    }

    fn preflights(
        &self,
        namespace: &Namespace,
        workflow: &str,
        version: u32,
    ) -> std::result::Result<Vec<PreflightRow>, StoreError> {
        self.read_preflights(namespace, workflow, version)
    }

    fn versions(
        &self,
        namespace: &Namespace,
        workflow: Option<&str>,
    ) -> std::result::Result<Vec<VersionRow>, StoreError> {
        self.read_versions(namespace, workflow)
    }

    fn put_activity(&self, namespace: &Namespace, row: &ActivityRow) -> std::result::Result<(), StoreError> {
        let (digest, config) = match &row.implementation {
            Implementation::Wasm { digest, grants } => (Some(digest.0.as_slice()), grants),
            Implementation::Http { config } => (None, config),
        };
        let args = Args::default().add(namespace.as_str()).add(&*row.name).add(row.implementation.kind());
        self.put(PUT_ACTIVITY, args.add(digest).add(config.as_str()).add(time(row.deployed_at)))
    }

    fn activity(&self, namespace: &Namespace, name: &str) -> std::result::Result<Option<ActivityRow>, StoreError> {
        self.one(ACTIVITY, Args::default().add(namespace.as_str()).add(name), activity)
    }

    fn activities(&self, namespace: &Namespace) -> std::result::Result<Vec<ActivityRow>, StoreError> {
        self.all(ACTIVITIES, Args::default().add(namespace.as_str()), activity)
    }

    fn put_queue(&self, row: &QueueRow) -> std::result::Result<(), StoreError> {
        let named = Args::default().add(row.namespace.as_str()).add(&*row.name);
        if row.limits.is_none() {
            return self.put(REMOVE_QUEUE, named);
        }
        let (rate, concurrency) = (row.limits.rate, row.limits.concurrency);
        let args = named.add(rate.map(|r| r.per_second)).add(rate.map(|r| i64::from(r.burst)));
        self.put(PUT_QUEUE, args.add(concurrency.map(i64::from)))
    }

    fn queues(&self) -> std::result::Result<Vec<QueueRow>, StoreError> {
        self.all(QUEUES, Args::default(), queue)
    }
}
