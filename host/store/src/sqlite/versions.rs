//! Versions of workflows in SQLite, and which of them new runs take.

use std::sync::Arc;

use relive_core::{
    Timestamp,
    ports::{Activation, ActivationKind, Canary, PreflightRow, Standing, VersionRow},
};
use rusqlite::{Connection, OptionalExtension, Result, Row, params, types::ValueRef};

use super::{
    error::unreadable,
    read::limit_of,
    rows::{self, time},
};

const VERSION: &str =
    "workflow, version, digest, export, input_schema, output_schema, active, deployed_at, author, note, signed_by";
const ACTIVATION: &str = "workflow, number, kind, version, canary, share, limits, at, author, reason";

fn optional(row: &Row<'_>, column: usize) -> Result<Option<Arc<str>>> {
    Ok(row.get::<_, Option<String>>(column)?.map(Into::into))
}

fn version(row: &Row<'_>) -> Result<VersionRow> {
    let schema = |column| {
        row.get_ref(column).and_then(|v| if v == ValueRef::Null { Ok(None) } else { rows::json(row, column).map(Some) })
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
        author: optional(row, 8)?,
        note: optional(row, 9)?,
        signed_by: optional(row, 10)?,
    })
}

fn activation(row: &Row<'_>) -> Result<Activation> {
    let kind = rows::text(row, 2)?;
    let canary = match row.get::<_, Option<i64>>(4)? {
        None => None,
        Some(_) => {
            let limits = rows::text(row, 6)?;
            let limits = serde_json::from_str(limits).map_err(|e| unreadable(format!("a canary's limits: {e}")))?;
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

pub(super) fn add(conn: &Connection, namespace: &str, row: &VersionRow) -> Result<VersionRow> {
    let sql = format!(
        "SELECT {VERSION} FROM versions WHERE namespace = ?1 AND workflow = ?2 AND digest = ?3 AND export = ?4"
    );
    // One that was deleted is there again, as it is deployed now.
    let again = "UPDATE versions SET deleted_at = NULL, deployed_at = ?5, author = ?6, note = ?7, signed_by = ?8 \
                 WHERE namespace = ?1 AND workflow = ?2 AND digest = ?3 AND export = ?4 AND deleted_at IS NOT NULL";
    let (digest, at) = (row.digest.0.as_slice(), time(row.deployed_at));
    let (author, note, signed_by) = (row.author.as_deref(), row.note.as_deref(), row.signed_by.as_deref());
    let code = params![namespace, &*row.workflow, digest, &*row.export, at, author, note, signed_by];
    conn.prepare_cached(again)?.execute(code)?;
    let code = params![namespace, &*row.workflow, digest, &*row.export];
    if let Some(known) = conn.prepare_cached(&sql)?.query_row(code, version).optional()? {
        return Ok(known);
    }
    let last = "SELECT coalesce(max(version), 0) FROM versions WHERE namespace = ?1 AND workflow = ?2";
    let last: u32 = conn.prepare_cached(last)?.query_row(params![namespace, &*row.workflow], |row| row.get(0))?;
    let new = VersionRow { version: last + 1, active: false, ..row.clone() };
    let sql =
        format!("INSERT INTO versions (namespace, {VERSION}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, 0, ?8, ?9, ?10, ?11)");
    conn.prepare_cached(&sql)?.execute(params![
        namespace,
        &*new.workflow,
        new.version,
        digest,
        &*new.export,
        new.input_schema.as_ref().map(|s| s.as_str()),
        new.output_schema.as_ref().map(|s| s.as_str()),
        at,
        author,
        note,
        signed_by,
    ])?;
    Ok(new)
}

/// The version with this number, if it is not deleted.
fn numbered(conn: &Connection, namespace: &str, workflow: &str, number: u32) -> Result<Option<VersionRow>> {
    let sql = format!(
        "SELECT {VERSION} FROM versions \
         WHERE namespace = ?1 AND workflow = ?2 AND version = ?3 AND deleted_at IS NULL"
    );
    conn.prepare_cached(&sql)?.query_row(params![namespace, workflow, number], version).optional()
}

pub(super) fn activate(conn: &Connection, namespace: &str, last: u64, next: &Activation) -> Result<Option<Activation>> {
    let workflow = &*next.workflow;
    let found = activations(conn, namespace, workflow, 1)?.first().map_or(0, |a| a.number);
    for number in [Some(next.version), next.canary.map(|c| c.version)].into_iter().flatten() {
        if numbered(conn, namespace, workflow, number)?.is_none() {
            return Ok(None);
        }
    }
    if found != last {
        return Ok(None);
    }
    // One after the other: there is never more than one.
    conn.prepare_cached("UPDATE versions SET active = 0 WHERE namespace = ?1 AND workflow = ?2 AND active = 1")?
        .execute(params![namespace, workflow])?;
    conn.prepare_cached("UPDATE versions SET active = 1 WHERE namespace = ?1 AND workflow = ?2 AND version = ?3")?
        .execute(params![namespace, workflow, next.version])?;
    let next = Activation { number: last + 1, ..next.clone() };
    let limits = next.canary.map(|c| serde_json::to_string(&c.limits)).transpose();
    let limits = limits.map_err(|e| unreadable(format!("limits that are no JSON: {e}")))?;
    let sql = format!(
        "INSERT INTO activations (namespace, {ACTIVATION}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)"
    );
    conn.prepare_cached(&sql)?.execute(params![
        namespace,
        workflow,
        next.number.cast_signed(),
        next.kind.name(),
        next.version,
        next.canary.map(|c| c.version),
        next.canary.map(|c| c.share),
        limits,
        time(next.at),
        next.author.as_deref(),
        next.reason.as_deref(),
    ])?;
    Ok(Some(next))
}

pub(super) fn delete(
    conn: &Connection,
    namespace: &str,
    workflow: &str,
    number: u32,
    last: u64,
    at: Timestamp,
) -> Result<bool> {
    let newest = activations(conn, namespace, workflow, 1)?.pop();
    if newest.as_ref().map_or(0, |a| a.number) != last || newest.is_some_and(|a| a.names(number)) {
        return Ok(false);
    }
    let sql = "UPDATE versions SET deleted_at = ?4 \
               WHERE namespace = ?1 AND workflow = ?2 AND version = ?3 AND deleted_at IS NULL";
    Ok(conn.prepare_cached(sql)?.execute(params![namespace, workflow, number, time(at)])? == 1)
}

pub(super) fn standing(conn: &Connection, namespace: &str, workflow: &str) -> Result<Option<Standing>> {
    let Some(activation) = activations(conn, namespace, workflow, 1)?.pop() else { return Ok(None) };
    let missing = |number: u32| unreadable(format!("version {number} of {workflow}, which is activated and not there"));
    let find = |number| numbered(conn, namespace, workflow, number)?.ok_or_else(|| missing(number));
    let canary = activation.canary.map(|c| find(c.version)).transpose()?;
    Ok(Some(Standing { active: find(activation.version)?, canary, activation }))
}

pub(super) fn activations(conn: &Connection, namespace: &str, workflow: &str, limit: usize) -> Result<Vec<Activation>> {
    let sql = format!(
        "SELECT {ACTIVATION} FROM activations WHERE namespace = ?1 AND workflow = ?2 ORDER BY number DESC LIMIT ?3"
    );
    conn.prepare_cached(&sql)?.query_map(params![namespace, workflow, limit_of(limit)], activation)?.collect()
}

pub(super) fn list(conn: &Connection, namespace: &str, workflow: Option<&str>) -> Result<Vec<VersionRow>> {
    let sql = format!(
        "SELECT {VERSION} FROM versions WHERE namespace = ?1 AND (?2 IS NULL OR workflow = ?2) AND deleted_at IS NULL \
         ORDER BY workflow, version"
    );
    conn.prepare_cached(&sql)?.query_map(params![namespace, workflow], version)?.collect()
}

pub(super) fn put_preflight(conn: &Connection, namespace: &str, row: &PreflightRow, keep: usize) -> Result<()> {
    let put = "INSERT INTO preflights (namespace, workflow, version, at, report) VALUES (?1, ?2, ?3, ?4, ?5) \
               ON CONFLICT DO UPDATE SET report = excluded.report";
    conn.prepare_cached(put)?.execute(params![
        namespace,
        &*row.workflow,
        row.version,
        time(row.at),
        row.report.as_str()
    ])?;
    let older = "DELETE FROM preflights WHERE namespace = ?1 AND workflow = ?2 AND version = ?3 AND at <= (SELECT at \
                 FROM preflights WHERE namespace = ?1 AND workflow = ?2 AND version = ?3 ORDER BY at DESC LIMIT 1 OFFSET ?4)";
    conn.prepare_cached(older)?.execute(params![namespace, &*row.workflow, row.version, limit_of(keep)]).map(|_| ())
}

pub(super) fn preflights(
    conn: &Connection,
    namespace: &str,
    workflow: &str,
    version: u32,
) -> Result<Vec<PreflightRow>> {
    let sql = "SELECT workflow, version, at, report FROM preflights \
               WHERE namespace = ?1 AND workflow = ?2 AND version = ?3 ORDER BY at DESC";
    let read = |row: &Row<'_>| {
        Ok(PreflightRow {
            workflow: rows::text(row, 0)?.into(),
            version: rows::small(row, 1)?,
            at: rows::timestamp(row, 2)?,
            report: rows::json(row, 3)?,
        })
    };
    conn.prepare_cached(sql)?.query_map(params![namespace, workflow, version], read)?.collect()
}
