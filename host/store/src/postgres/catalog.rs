//! The catalog in PostgreSQL. Whatever changes what runs under a name moves the catalog's revision, which hosts see with
//! their beats; its row is also the lock that deployments take.

use relive_core::{
    Digest, Namespace,
    ports::{
        ActivityRow, Catalog, ComponentMeta, Implementation, QueueLimits, QueueRow, RateLimit, StoreError,
        StoreErrorKind, VersionRow,
    },
};
use sqlx::{Row, postgres::PgRow};

use super::{
    PostgresStore,
    error::{self, Result, store_error, unreadable},
    links::{Held, MAX_TRIES},
    rows::{self, Args},
};
use crate::columns::time;

macro_rules! version {
    () => {
        "workflow, version, digest, export, input_schema, output_schema, active, deployed_at"
    };
}

const PUT_COMPONENT: &str = "INSERT INTO components (digest, size, added_at, inspection, bytes) VALUES ($1, $2, $3, $4, $5) \
    ON CONFLICT DO NOTHING";
const COMPONENT: &str = "SELECT bytes FROM components WHERE digest = $1";
const COMPONENT_META: &str = "SELECT digest, size, inspection, added_at FROM components WHERE digest = $1";
const MOVE_REVISION: &str = "UPDATE meta SET value = value + 1 WHERE key = 'catalog_revision'";
const RETIRE: &str = "UPDATE versions SET active = false WHERE namespace = $1 AND workflow = $2 AND active";
const KNOWN: &str = concat!(
    "UPDATE versions SET active = true WHERE namespace = $1 AND workflow = $2 AND digest = $3 AND export = $4 RETURNING ",
    version!()
);
const ADD: &str = concat!(
    "INSERT INTO versions (namespace, ",
    version!(),
    ") SELECT $1, $2, coalesce(max(version), 0) + 1, $3, $4, $5, $6, true, $7 \
     FROM versions WHERE namespace = $1 AND workflow = $2 RETURNING ",
    version!()
);
const ACTIVE: &str = concat!("SELECT ", version!(), " FROM versions WHERE namespace = $1 AND workflow = $2 AND active");
const VERSIONS: &str = concat!("SELECT ", version!(), " FROM versions WHERE namespace = $1 ORDER BY workflow, version");
const VERSIONS_OF: &str =
    concat!("SELECT ", version!(), " FROM versions WHERE namespace = $1 AND workflow = $2 ORDER BY version");
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

fn version(row: &PgRow) -> Result<VersionRow> {
    Ok(VersionRow {
        workflow: rows::text(row, 0)?.into(),
        version: rows::small(row, 1)?,
        digest: rows::digest(row, 2)?,
        export: rows::text(row, 3)?.into(),
        input_schema: rows::optional_json(row, 4)?,
        output_schema: rows::optional_json(row, 5)?,
        active: row.try_get(6)?,
        deployed_at: rows::timestamp(row, 7)?,
    })
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

/// Makes the version of this code the only active one, adding it if it is new. One deployment at a time.
fn deploy(link: &mut Held<'_>, namespace: &str, row: &VersionRow) -> Result<VersionRow> {
    let named = || Args::default().add(namespace).add(&*row.workflow);
    link.rows(MOVE_REVISION, Args::default().done()?)?;
    link.rows(RETIRE, named().done()?)?;
    let code = || named().add(row.digest.0.as_slice()).add(&*row.export);
    if let Some(known) = link.rows(KNOWN, code().done()?)?.first() {
        return version(known);
    }
    let schema = |schema: &Option<relive_core::Json>| schema.as_ref().map(|s| s.as_str().to_owned());
    let args = named().add(row.digest.0.as_slice()).add(&*row.export);
    let args = args.add(schema(&row.input_schema)).add(schema(&row.output_schema)).add(time(row.deployed_at));
    let added = link.rows(ADD, args.done()?)?;
    added.first().map_or_else(|| Err(unreadable("a version that was added and is not there")), version)
}

impl PostgresStore {
    fn put(&self, sql: &'static str, args: Args) -> std::result::Result<(), StoreError> {
        self.count_round_trip();
        let put = || self.writes.write(sql, args.done()?).map(|_| ());
        let done: Result<()> = put();
        done.map_err(|e| store_error(&e))
    }

    fn deploy_in_transaction(&self, namespace: &str, row: &VersionRow) -> Result<VersionRow> {
        let mut link = self.writes.take()?;
        link.begin()?;
        match deploy(&mut link, namespace, row) {
            Ok(row) => link.commit().map(|()| row),
            Err(error) => {
                // A connection on which that fails, too, is closed.
                if let Err(undone) = link.rollback() {
                    tracing::debug!(error = %undone, "rolling a deployment back failed");
                }
                Err(error)
            }
        }
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

    fn deploy(&self, namespace: &Namespace, row: &VersionRow) -> std::result::Result<VersionRow, StoreError> {
        let mut tries = 1;
        loop {
            match self.deploy_in_transaction(namespace.as_str(), row) {
                Err(error) if error::is_race(&error) && tries < MAX_TRIES => tries += 1,
                result => return result.map_err(|e| store_error(&e)),
            }
        }
    }

    fn active_version(
        &self,
        namespace: &Namespace,
        workflow: &str,
    ) -> std::result::Result<Option<VersionRow>, StoreError> {
        self.one(ACTIVE, Args::default().add(namespace.as_str()).add(workflow), version)
    }

    fn versions(
        &self,
        namespace: &Namespace,
        workflow: Option<&str>,
    ) -> std::result::Result<Vec<VersionRow>, StoreError> {
        let args = Args::default().add(namespace.as_str());
        match workflow {
            Some(workflow) => self.all(VERSIONS_OF, args.add(workflow), version),
            None => self.all(VERSIONS, args, version),
        }
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
