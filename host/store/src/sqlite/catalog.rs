//! The catalog in SQLite.

use relive_core::{
    Digest, Namespace,
    ports::{
        ActivityRow, Catalog, ComponentMeta, Implementation, QueueLimits, QueueRow, RateLimit, StoreError,
        StoreErrorKind, VersionRow,
    },
};
use rusqlite::{Connection, OptionalExtension, Result, Row, params};

use super::{
    SqliteStore,
    error::unreadable,
    rows::{self, time},
};

const VERSION: &str = "workflow, version, digest, export, input_schema, output_schema, active, deployed_at";
const ACTIVITY: &str = "name, kind, digest, config, deployed_at";

fn version(row: &Row<'_>) -> Result<VersionRow> {
    let schema = |column| {
        row.get_ref(column).and_then(|v| {
            if v == rusqlite::types::ValueRef::Null { Ok(None) } else { rows::json(row, column).map(Some) }
        })
    };
    Ok(VersionRow {
        workflow: rows::text(row, 0)?.into(),
        version: rows::small(row, 1)?,
        digest: rows::digest(row, 2)?,
        export: rows::text(row, 3)?.into(),
        input_schema: schema(4)?,
        output_schema: schema(5)?,
        active: row.get(6)?,
        deployed_at: rows::timestamp(row, 7)?,
    })
}

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

/// Makes the version of this code the only active one, adding it if it is new.
fn deploy(conn: &Connection, namespace: &str, row: &VersionRow) -> Result<VersionRow> {
    conn.prepare_cached("UPDATE versions SET active = 0 WHERE namespace = ?1 AND workflow = ?2 AND active = 1")?
        .execute(params![namespace, &*row.workflow])?;
    let sql = format!(
        "SELECT {VERSION} FROM versions WHERE namespace = ?1 AND workflow = ?2 AND digest = ?3 AND export = ?4"
    );
    let code = params![namespace, &*row.workflow, row.digest.0.as_slice(), &*row.export];
    if let Some(known) = conn.prepare_cached(&sql)?.query_row(code, version).optional()? {
        conn.prepare_cached("UPDATE versions SET active = 1 WHERE namespace = ?1 AND workflow = ?2 AND version = ?3")?
            .execute(params![namespace, &*row.workflow, known.version])?;
        return Ok(VersionRow { active: true, ..known });
    }
    let last = "SELECT coalesce(max(version), 0) FROM versions WHERE namespace = ?1 AND workflow = ?2";
    let last: u32 = conn.prepare_cached(last)?.query_row(params![namespace, &*row.workflow], |row| row.get(0))?;
    let new = VersionRow { version: last + 1, active: true, ..row.clone() };
    let sql = format!("INSERT INTO versions (namespace, {VERSION}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, 1, ?8)");
    conn.prepare_cached(&sql)?.execute(params![
        namespace,
        &*new.workflow,
        new.version,
        new.digest.0.as_slice(),
        &*new.export,
        new.input_schema.as_ref().map(|s| s.as_str()),
        new.output_schema.as_ref().map(|s| s.as_str()),
        time(new.deployed_at),
    ])?;
    Ok(new)
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

    fn deploy(&self, namespace: &Namespace, row: &VersionRow) -> std::result::Result<VersionRow, StoreError> {
        self.writer.write(|conn| deploy(conn, namespace.as_str(), row))
    }

    fn active_version(
        &self,
        namespace: &Namespace,
        workflow: &str,
    ) -> std::result::Result<Option<VersionRow>, StoreError> {
        let sql = format!("SELECT {VERSION} FROM versions WHERE namespace = ?1 AND workflow = ?2 AND active = 1");
        self.readers
            .read(|conn| conn.prepare_cached(&sql)?.query_row([namespace.as_str(), workflow], version).optional())
    }

    fn versions(
        &self,
        namespace: &Namespace,
        workflow: Option<&str>,
    ) -> std::result::Result<Vec<VersionRow>, StoreError> {
        let sql = format!(
            "SELECT {VERSION} FROM versions WHERE namespace = ?1 AND (?2 IS NULL OR workflow = ?2) ORDER BY workflow, version"
        );
        self.readers.read(|conn| {
            conn.prepare_cached(&sql)?.query_map(params![namespace.as_str(), workflow], version)?.collect()
        })
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
