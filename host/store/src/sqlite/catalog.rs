//! The catalog in SQLite.

use relive_core::{
    Digest, Namespace, Timestamp,
    ports::{
        Activation, ActivityRow, Catalog, ComponentMeta, Implementation, PreflightRow, QueueLimits, QueueRow,
        RateLimit, Standing, StoreError, StoreErrorKind, VersionRow,
    },
};
use rusqlite::{OptionalExtension, Result, Row, params};

use super::{
    SqliteStore,
    error::unreadable,
    rows::{self, time},
    versions,
};

const ACTIVITY: &str = "name, kind, digest, config, deployed_at";

fn activity(row: &Row<'_>) -> Result<ActivityRow> {
    let config = rows::json(row, 3)?;
    let implementation = match rows::text(row, 1)? {
        "wasm" => Implementation::Wasm { digest: rows::digest(row, 2)?, grants: config },
        "http" => Implementation::Http { config },
        kind => return Err(unreadable(format!("the activity kind {kind:?}"))),
    };
    Ok(ActivityRow { name: rows::text(row, 0)?.into(), implementation, deployed_at: rows::timestamp(row, 4)? })
}

fn queue(row: &Row<'_>) -> Result<QueueRow> {
    let rate = match row.get::<_, Option<f64>>(2)? {
        Some(per_second) => Some(RateLimit { per_second, burst: rows::small(row, 3)? }),
        None => None,
    };
    let concurrency = row.get::<_, Option<i64>>(4)?.map(|_| rows::small(row, 4)).transpose()?;
    let limits = QueueLimits { rate, concurrency };
    limits.check().map_err(|e| unreadable(format!("a task queue's limits: {e}")))?;
    Ok(QueueRow { namespace: rows::namespace(row, 0)?, name: rows::text(row, 1)?.into(), limits })
}

impl Catalog for SqliteStore {
    fn put_component(&self, meta: &ComponentMeta, bytes: &[u8]) -> std::result::Result<(), StoreError> {
        crate::check::component(meta, bytes)?;
        let sql = "INSERT INTO components (digest, size, added_at, inspection, bytes) VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT DO NOTHING";
        let size = meta.size.cast_signed();
        self.writer.write(|conn| {
            let row = params![meta.digest.0.as_slice(), size, time(meta.added_at), meta.inspection.as_str(), bytes];
            conn.prepare_cached(sql)?.execute(row).map(|_| ())
        })
    }

    fn component(&self, digest: &Digest) -> std::result::Result<Option<Vec<u8>>, StoreError> {
        let sql = "SELECT bytes FROM components WHERE digest = ?1";
        let bytes = self.readers.read(|conn| {
            conn.prepare_cached(sql)?.query_row([digest.0.as_slice()], |row| row.get::<_, Vec<u8>>(0)).optional()
        })?;
        match bytes {
            Some(bytes) if Digest::of(&bytes) != *digest => {
                let message = format!(
                    "the stored bytes of component {digest} were changed; deploy it again into a new data directory"
                );
                Err(StoreError::new(StoreErrorKind::Corrupt, message))
            }
            bytes => Ok(bytes),
        }
    }

    fn component_meta(&self, digest: &Digest) -> std::result::Result<Option<ComponentMeta>, StoreError> {
        let sql = "SELECT digest, size, inspection, added_at FROM components WHERE digest = ?1";
        let read = |row: &Row<'_>| {
            Ok(ComponentMeta {
                digest: rows::digest(row, 0)?,
                size: rows::number(row, 1)?,
                inspection: rows::json(row, 2)?,
                added_at: rows::timestamp(row, 3)?,
            })
        };
        self.readers.read(|conn| conn.prepare_cached(sql)?.query_row([digest.0.as_slice()], read).optional())
    }

    fn add_version(&self, namespace: &Namespace, row: &VersionRow) -> std::result::Result<VersionRow, StoreError> {
        self.writer.write(|conn| versions::add(conn, namespace.as_str(), row))
    }

    fn activate(
        &self,
        namespace: &Namespace,
        last: u64,
        next: &Activation,
    ) -> std::result::Result<Option<Activation>, StoreError> {
        self.writer.write(|conn| versions::activate(conn, namespace.as_str(), last, next))
    }

    fn delete_version(
        &self,
        namespace: &Namespace,
        workflow: &str,
        version: u32,
        last: u64,
        at: Timestamp,
    ) -> Result<bool, StoreError> {
        self.writer.write(|conn| versions::delete(conn, namespace.as_str(), workflow, version, last, at))
    }

    fn standing(&self, namespace: &Namespace, workflow: &str) -> std::result::Result<Option<Standing>, StoreError> {
        self.readers.read(|conn| versions::standing(conn, namespace.as_str(), workflow))
    }

    fn activations(
        &self,
        namespace: &Namespace,
        workflow: &str,
        limit: usize,
    ) -> std::result::Result<Vec<Activation>, StoreError> {
        self.readers.read(|conn| versions::activations(conn, namespace.as_str(), workflow, limit))
    }

    fn put_preflight(
        &self,
        namespace: &Namespace,
        row: &PreflightRow,
        keep: usize,
    ) -> std::result::Result<(), StoreError> {
        self.writer.write(|conn| versions::put_preflight(conn, namespace.as_str(), row, keep))
    }

    fn preflights(
        &self,
        namespace: &Namespace,
        workflow: &str,
        version: u32,
    ) -> std::result::Result<Vec<PreflightRow>, StoreError> {
        self.readers.read(|conn| versions::preflights(conn, namespace.as_str(), workflow, version))
    }

    fn versions(
        &self,
        namespace: &Namespace,
        workflow: Option<&str>,
    ) -> std::result::Result<Vec<VersionRow>, StoreError> {
        self.readers.read(|conn| versions::list(conn, namespace.as_str(), workflow))
    }

    fn put_activity(&self, namespace: &Namespace, row: &ActivityRow) -> std::result::Result<(), StoreError> {
        let sql = format!(
            "INSERT INTO activities (namespace, {ACTIVITY}) VALUES (?1, ?2, ?3, ?4, ?5, ?6) \
             ON CONFLICT DO UPDATE SET kind = excluded.kind, digest = excluded.digest, config = excluded.config, \
             deployed_at = excluded.deployed_at"
        );
        let (digest, config) = match &row.implementation {
            Implementation::Wasm { digest, grants } => (Some(digest.0.as_slice()), grants),
            Implementation::Http { config } => (None, config),
        };
        let kind = row.implementation.kind();
        self.writer.write(|conn| {
            let row = params![namespace.as_str(), &*row.name, kind, digest, config.as_str(), time(row.deployed_at)];
            conn.prepare_cached(&sql)?.execute(row).map(|_| ())
        })
    }

    fn activity(&self, namespace: &Namespace, name: &str) -> std::result::Result<Option<ActivityRow>, StoreError> {
        let sql = format!("SELECT {ACTIVITY} FROM activities WHERE namespace = ?1 AND name = ?2");
        self.readers.read(|conn| conn.prepare_cached(&sql)?.query_row([namespace.as_str(), name], activity).optional())
    }

    fn activities(&self, namespace: &Namespace) -> std::result::Result<Vec<ActivityRow>, StoreError> {
        let sql = format!("SELECT {ACTIVITY} FROM activities WHERE namespace = ?1 ORDER BY name");
        self.readers.read(|conn| conn.prepare_cached(&sql)?.query_map([namespace.as_str()], activity)?.collect())
    }

    fn put_queue(&self, row: &QueueRow) -> std::result::Result<(), StoreError> {
        let (namespace, name, limits) = (row.namespace.as_str(), &*row.name, row.limits);
        let put = "INSERT INTO task_queues (namespace, name, rate, burst, concurrency) VALUES (?1, ?2, ?3, ?4, ?5) \
                   ON CONFLICT DO UPDATE SET rate = excluded.rate, burst = excluded.burst, concurrency = excluded.concurrency";
        self.writer.write(|conn| {
            if limits.is_none() {
                let remove = "DELETE FROM task_queues WHERE namespace = ?1 AND name = ?2";
                return conn.prepare_cached(remove)?.execute([namespace, name]).map(|_| ());
            }
            let (rate, burst) = (limits.rate.map(|r| r.per_second), limits.rate.map(|r| r.burst));
            conn.prepare_cached(put)?.execute(params![namespace, name, rate, burst, limits.concurrency]).map(|_| ())
        })
    }

    fn queues(&self) -> std::result::Result<Vec<QueueRow>, StoreError> {
        let sql = "SELECT namespace, name, rate, burst, concurrency FROM task_queues ORDER BY namespace, name";
        self.readers.read(|conn| conn.prepare_cached(sql)?.query_map([], queue)?.collect())
    }
}
