//! How the server goes about the statements that matter: for the test that none walks a whole table, and for the page
//! that shows it.

use sqlx::{AssertSqlSafe, Row, postgres::PgConnection};

use super::{census, images, links, outbox, read, slow, statement, together};

/// A statement under its name.
pub struct Plan {
    pub name: &'static str,
    pub sql: String,
    pub plan: String,
}

/// The statements of a host at work.
fn statements() -> Vec<(&'static str, String)> {
    use statement::Part;
    let step = [Part::Updated, Part::Events, Part::PlainTasks, Part::RemovedTasks];
    let everything = Part::ALL;
    let bits = |parts: &[Part]| parts.iter().fold(0, |bits, part| bits | part.bit());
    let list = |filter: relive_core::ports::ListFilter| read::list(&filter, None, 10).0;
    let anywhere = relive_core::ports::ListFilter::default;
    let filter = || relive_core::ports::ListFilter { namespace: Some(relive_core::Namespace::default()), ..anywhere() };
    let open = relive_core::ports::ListFilter { status: Some(relive_core::ports::Status::Running), ..anywhere() };
    let status = |status| relive_core::ports::ListFilter { status: Some(status), ..filter() };
    let owned = |sql: &str| sql.to_owned();
    vec![
        ("append: a step", statement::compose(bits(&step))),
        ("append: everything at once", statement::compose(bits(&everything))),
        ("append: rows locked", owned(slow::LOCK)),
        ("append: shards locked", owned(slow::FENCES)),
        ("append: keys known", owned(slow::KNOWN_KEYS)),
        ("append: open runs", owned(slow::OPEN_RUNS)),
        ("take over a run", owned(read::TAKE)),
        ("take over many runs", owned(together::TAKE_TOGETHER)),
        ("stamp a run", owned(read::STAMP)),
        ("an execution", owned(read::EXECUTION)),
        ("a run by its name", owned(read::RUN_BY_NAME)),
        ("a run by its id", owned(read::RUN_BY_ID)),
        ("replay", owned(read::EVENTS)),
        ("large events", owned(read::ARTIFACTS)),
        ("a run's work", owned(read::OPEN_WORK)),
        ("who needs a wake", owned(read::NEEDS_WAKE)),
        ("due timers", owned(read::DUE_TIMERS)),
        ("open tasks", owned(read::OPEN_TASKS)),
        ("count a crash", owned(read::COUNT_CRASH)),
        ("published values", owned(read::PUBLISHED)),
        ("a published value", owned(read::PUBLISHED_KEY)),
        ("log lines", owned(read::LOGS)),
        ("the newest image", owned(images::NEWEST)),
        ("save images", images::save_sql()),
        ("what is to be published", owned(outbox::UNPUBLISHED)),
        ("what was published", owned(outbox::PUBLISHED)),
        ("list: all", list(filter())),
        ("list: open, of all namespaces", list(open)),
        ("list: a workflow's", list(relive_core::ports::ListFilter { workflow: Some("w".to_owned()), ..filter() })),
        ("list: running", list(status(relive_core::ports::Status::Running))),
        ("list: blocked", list(status(relive_core::ports::Status::Blocked))),
        ("list: failed", list(status(relive_core::ports::Status::Failed))),
        ("versions, counted", owned(census::VERSION_COUNTS)),
        ("events of a type", owned("SELECT key FROM events WHERE type = 8 ORDER BY key")),
        ("executions by correlation id", owned("SELECT key FROM executions WHERE correlation_id = $1 ORDER BY key")),
    ]
}

/// The parameters of a statement, all of them NULL: a generic plan does not look at them.
fn nulls(sql: &str) -> String {
    let count = (1..).take_while(|n| sql.contains(&format!("${n}"))).count();
    if count == 0 { String::new() } else { format!("({})", vec!["NULL"; count].join(", ")) }
}

/// Explains them as the adapter's sessions run them.
///
/// # Errors
/// Those of the server.
pub fn explain(url: &str) -> Result<Vec<Plan>, sqlx::Error> {
    let bridge = super::bridge::Bridge::new().map_err(sqlx::Error::Io)?;
    let mut conn = links::connect(&bridge, &url.parse()?)?;
    statements().into_iter().map(|(name, sql)| bridge.wait(explain_one(&mut conn, name, sql))).collect()
}

async fn explain_one(conn: &mut PgConnection, name: &'static str, sql: String) -> Result<Plan, sqlx::Error> {
    sqlx::raw_sql(AssertSqlSafe(format!("PREPARE explained AS {sql}"))).execute(&mut *conn).await?;
    let explain = format!("EXPLAIN (COSTS OFF) EXECUTE explained{}", nulls(&sql));
    let rows = sqlx::raw_sql(AssertSqlSafe(explain)).fetch_all(&mut *conn).await?;
    sqlx::raw_sql("DEALLOCATE explained").execute(conn).await?;
    let lines = rows.iter().map(|row| row.try_get::<String, _>(0)).collect::<Result<Vec<_>, _>>()?;
    Ok(Plan { name, sql, plan: lines.join("\n") })
}
