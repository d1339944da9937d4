//! Versions of workflows in PostgreSQL, and which of them new runs take. The row of the catalog's revision is the lock that
//! changes take, so one is made at a time; hosts see it move with their beats.

use relive_core::{
    Json, Namespace, Timestamp,
    ports::{Activation, ActivationKind, Canary, PreflightRow, Standing, StoreError, VersionRow},
};
use sqlx::{Row, postgres::PgRow};

use super::{
    PostgresStore,
    error::{self, Result, store_error, unreadable},
    links::{Held, MAX_TRIES},
    rows::{self, Args, limit_of},
};
use crate::columns::time;

macro_rules! version {
    () => {
        "workflow, version, digest, export, input_schema, output_schema, active, deployed_at, author, note, signed_by"
    };
}
macro_rules! activation {
    () => {
        "workflow, number, kind, version, canary, share, limits, at, author, reason"
    };
}

const MOVE_REVISION: &str = "UPDATE meta SET value = value + 1 WHERE key = 'catalog_revision'";
const KNOWN: &str = concat!(
    "SELECT ",
    version!(),
    " FROM versions WHERE namespace = $1 AND workflow = $2 AND digest = $3 AND export = $4"
);
/// One that was deleted is there again, as it is deployed now.
const AGAIN: &str = "UPDATE versions SET deleted_at = NULL, deployed_at = $5, author = $6, note = $7, signed_by = $8 \
    WHERE namespace = $1 AND workflow = $2 AND digest = $3 AND export = $4 AND deleted_at IS NOT NULL";
const DELETE: &str = "UPDATE versions SET deleted_at = $4 \
    WHERE namespace = $1 AND workflow = $2 AND version = $3 AND deleted_at IS NULL RETURNING version";
const ADD: &str = concat!(
    "INSERT INTO versions (namespace, ",
    version!(),
    ") SELECT $1, $2, coalesce(max(version), 0) + 1, $3, $4, $5, $6, false, $7, $8, $9, $10 \
     FROM versions WHERE namespace = $1 AND workflow = $2 RETURNING ",
    version!()
);
const SOME: &str = concat!(
    "SELECT ",
    version!(),
    " FROM versions WHERE namespace = $1 AND workflow = $2 AND version = ANY ($3::int8[]) ORDER BY version"
);
const THERE: &str = "SELECT version FROM versions \
    WHERE namespace = $1 AND workflow = $2 AND version = ANY ($3::int8[]) AND deleted_at IS NULL";
const VERSIONS: &str = concat!(
    "SELECT ",
    version!(),
    " FROM versions WHERE namespace = $1 AND deleted_at IS NULL ORDER BY workflow, version"
);
const VERSIONS_OF: &str = concat!(
    "SELECT ",
    version!(),
    " FROM versions WHERE namespace = $1 AND workflow = $2 AND deleted_at IS NULL ORDER BY version"
);
/// One after the other: there is never more than one.
const RETIRE: &str = "UPDATE versions SET active = false WHERE namespace = $1 AND workflow = $2 AND active";
const RAISE: &str = "UPDATE versions SET active = true WHERE namespace = $1 AND workflow = $2 AND version = $3";
const ACTIVATIONS: &str = concat!(
    "SELECT ",
    activation!(),
    " FROM activations WHERE namespace = $1 AND workflow = $2 ORDER BY number DESC LIMIT $3"
);
const NOTE: &str = concat!(
    "INSERT INTO activations (namespace, ",
    activation!(),
    ") VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)"
);

/// Those that are too many beside the new one, which the statement does not see, go.
const PUT_PREFLIGHT: &str = "WITH older AS (DELETE FROM preflights p WHERE p.namespace = $1 AND p.workflow = $2 \
    AND p.version = $3 AND p.at <= (SELECT k.at FROM preflights k WHERE k.namespace = $1 AND k.workflow = $2 \
    AND k.version = $3 AND k.at <> $4 ORDER BY k.at DESC OFFSET $6 LIMIT 1)) \
    INSERT INTO preflights (namespace, workflow, version, at, report) VALUES ($1, $2, $3, $4, $5) \
    ON CONFLICT (namespace, workflow, version, at) DO UPDATE SET report = excluded.report";
const PREFLIGHTS: &str = "SELECT workflow, version, at, report FROM preflights \
    WHERE namespace = $1 AND workflow = $2 AND version = $3 ORDER BY at DESC";

fn optional(row: &PgRow, column: usize) -> Result<Option<std::sync::Arc<str>>> {
    Ok(row.try_get::<Option<&str>, _>(column)?.map(Into::into))
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
        author: optional(row, 8)?,
        note: optional(row, 9)?,
        signed_by: optional(row, 10)?,
    })
}

fn activation(row: &PgRow) -> Result<Activation> {
    let kind = rows::text(row, 2)?;
    let canary = match row.try_get::<Option<i64>, _>(4)? {
        None => None,
        Some(_) => {
            let limits = serde_json::from_str(rows::text(row, 6)?);
            let limits = limits.map_err(|e| unreadable(format!("a canary's limits: {e}")))?;
            Some(Canary { version: rows::small(row, 4)?, share: rows::small(row, 5)?, limits })
        }
    };
    Ok(Activation {
        workflow: rows::text(row, 0)?.into(),
        number: rows::number(row, 1)?,
        kind: ActivationKind::from_name(kind).ok_or_else(|| unreadable(format!("the activation {kind:?}")))?,
        version: rows::small(row, 3)?,
        canary,
        at: rows::timestamp(row, 7)?,
        author: optional(row, 8)?,
        reason: optional(row, 9)?,
    })
}

pub(super) fn add(link: &mut Held<'_>, namespace: &str, row: &VersionRow) -> Result<VersionRow> {
    let code = || Args::default().add(namespace).add(&*row.workflow).add(row.digest.0.as_slice()).add(&*row.export);
    let signed = |args: Args| args.add(row.author.as_deref()).add(row.note.as_deref()).add(row.signed_by.as_deref());
    link.rows(AGAIN, signed(code().add(time(row.deployed_at))).done()?)?;
    if let Some(known) = link.rows(KNOWN, code().done()?)?.first() {
        return version(known);
    }
    let schema = |schema: &Option<Json>| schema.as_ref().map(|s| s.as_str().to_owned());
    let args = code().add(schema(&row.input_schema)).add(schema(&row.output_schema)).add(time(row.deployed_at));
    let added = link.rows(ADD, signed(args).done()?)?;
    added.first().map_or_else(|| Err(unreadable("a version that was added and is not there")), version)
}

pub(super) fn activate(
    link: &mut Held<'_>,
    namespace: &str,
    last: u64,
    next: &Activation,
) -> Result<Option<Activation>> {
    let named = || Args::default().add(namespace).add(&*next.workflow);
    let found = link.rows(ACTIVATIONS, named().add(1_i64).done()?)?.first().map(activation).transpose()?;
    let mut numbers: Vec<i64> = vec![next.version.into()];
    numbers.extend(next.canary.map(|c| i64::from(c.version)).filter(|canary| *canary != i64::from(next.version)));
    let known = link.rows(THERE, named().add(numbers.clone()).done()?)?.len();
    if found.map_or(0, |a| a.number) != last || known != numbers.len() {
        return Ok(None);
    }
    link.rows(RETIRE, named().done()?)?;
    link.rows(RAISE, named().add(i64::from(next.version)).done()?)?;
    let next = Activation { number: last + 1, ..next.clone() };
    let limits = next.canary.map(|c| serde_json::to_string(&c.limits)).transpose();
    let limits = limits.map_err(|e| unreadable(format!("limits that are no JSON: {e}")))?;
    let canary = next.canary.map(|c| (i64::from(c.version), i64::from(c.share))).unzip();
    let args = named().add(next.number.cast_signed()).add(next.kind.name()).add(i64::from(next.version));
    let args = args.add(canary.0).add(canary.1).add(limits).add(time(next.at));
    link.rows(NOTE, args.add(next.author.as_deref()).add(next.reason.as_deref()).done()?)?;
    Ok(Some(next))
}

pub(super) fn delete(
    link: &mut Held<'_>,
    namespace: &str,
    workflow: &str,
    number: u32,
    last: u64,
    at: Timestamp,
) -> Result<bool> {
    let named = || Args::default().add(namespace).add(workflow);
    let newest = link.rows(ACTIVATIONS, named().add(1_i64).done()?)?.first().map(activation).transpose()?;
    if newest.as_ref().map_or(0, |a| a.number) != last || newest.is_some_and(|a| a.names(number)) {
        return Ok(false);
    }
    Ok(link.rows(DELETE, named().add(i64::from(number)).add(time(at)).done()?)?.len() == 1)
}

impl PostgresStore {
    /// Does something to the catalog in a transaction, one at a time over all hosts.
    pub(super) fn in_turn<T>(&self, change: impl Fn(&mut Held<'_>) -> Result<T>) -> std::result::Result<T, StoreError> {
        let mut tries = 1;
        loop {
            match self.try_in_turn(&change) {
                Err(error) if error::is_race(&error) && tries < MAX_TRIES => tries += 1,
                result => return result.map_err(|e| store_error(&e)),
            }
        }
    }

    fn try_in_turn<T>(&self, change: &impl Fn(&mut Held<'_>) -> Result<T>) -> Result<T> {
        let mut link = self.writes.take()?;
        link.begin()?;
        let moved = link.rows(MOVE_REVISION, Args::default().done()?);
        match moved.and_then(|_| change(&mut link)) {
            Ok(result) => link.commit().map(|()| result),
            Err(error) => {
                // A connection on which that fails, too, is closed.
                if let Err(undone) = link.rollback() {
                    tracing::debug!(error = %undone, "rolling a change of the catalog back failed");
                }
                Err(error)
            }
        }
    }

    pub(super) fn read_activations(
        &self,
        namespace: &Namespace,
        workflow: &str,
        limit: usize,
    ) -> std::result::Result<Vec<Activation>, StoreError> {
        let args = Args::default().add(namespace.as_str()).add(workflow).add(limit_of(limit));
        self.all(ACTIVATIONS, args, activation)
    }

    /// Versions do not change, and are there also when they are deleted, so two statements tell what one would.
    pub(super) fn read_standing(
        &self,
        namespace: &Namespace,
        workflow: &str,
    ) -> std::result::Result<Option<Standing>, StoreError> {
        let Some(activation) = self.read_activations(namespace, workflow, 1)?.pop() else { return Ok(None) };
        let numbers = [Some(activation.version), activation.canary.map(|c| c.version)];
        let numbers: Vec<i64> = numbers.into_iter().flatten().map(i64::from).collect();
        let versions = self.all(SOME, Args::default().add(namespace.as_str()).add(workflow).add(numbers), version)?;
        let find = |number: u32| {
            let missing = || unreadable(format!("version {number} of {workflow}, which is activated and not there"));
            versions.iter().find(|v| v.version == number).cloned().ok_or_else(|| store_error(&missing()))
        };
        let canary = activation.canary.map(|c| find(c.version)).transpose()?;
        Ok(Some(Standing { active: VersionRow { active: true, ..find(activation.version)? }, canary, activation }))
    }

    pub(super) fn write_preflight(
        &self,
        namespace: &Namespace,
        row: &PreflightRow,
        keep: usize,
    ) -> std::result::Result<(), StoreError> {
        let args = Args::default().add(namespace.as_str()).add(&*row.workflow).add(i64::from(row.version));
        let args = args.add(time(row.at)).add(row.report.as_str()).add(limit_of(keep.saturating_sub(1)));
        self.put(PUT_PREFLIGHT, args)
    }

    pub(super) fn read_preflights(
        &self,
        namespace: &Namespace,
        workflow: &str,
        version: u32,
    ) -> std::result::Result<Vec<PreflightRow>, StoreError> {
        let args = Args::default().add(namespace.as_str()).add(workflow).add(i64::from(version));
        self.all(PREFLIGHTS, args, |row| {
            Ok(PreflightRow {
                workflow: rows::text(row, 0)?.into(),
                version: rows::small(row, 1)?,
                at: rows::timestamp(row, 2)?,
                report: rows::json(row, 3)?,
            })
        })
    }

    pub(super) fn read_versions(
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
}
