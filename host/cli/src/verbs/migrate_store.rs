//! `relive migrate-store`: brings the schema of a shared database up to this program's.

use relive_store::PostgresStore;
use serde::Serialize;

use crate::{
    Context,
    exit::{Exit, Failure},
    output,
};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The database: postgres://USER:PASSWORD@HOST:PORT/DATABASE
    #[arg(long, env = "RELIVE_STORE", hide_env_values = true, value_name = "URL")]
    store: String,
}

#[derive(Serialize)]
struct Done {
    from: i64,
    to: i64,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<Exit, Failure> {
    let done = PostgresStore::migrate(&args.store)
        .map_err(|e| Failure::new(Exit::Failed, e.code(), format!("failed to migrate the store: {e}")))?;
    if context.global.json {
        let done = Done { from: done.from, to: done.to };
        let text = serde_json::to_string(&done).map_err(|e| Failure::new(Exit::Failed, "output", e.to_string()))?;
        output::line(&text)?;
    } else if done.from == done.to {
        output::line(&format!("the schema is up to date (version {})", done.to))?;
    } else {
        output::line(&format!("the schema went from version {} to {}", done.from, done.to))?;
    }
    Ok(Exit::Ok)
}
