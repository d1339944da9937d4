//! `relive shards`: who owns which shard of a cluster.

use serde::Deserialize;

use crate::{
    Context,
    client::{Route, decode},
    exit::{Exit, Failure},
    output::{self, Table},
};

#[derive(Debug, clap::Args)]
pub struct Args {}

#[derive(Deserialize)]
struct Shards {
    shards: Vec<Shard>,
}

#[derive(Deserialize, PartialEq)]
struct Shard {
    shard: u8,
    owner: Option<String>,
    epoch: u64,
}

pub(crate) fn run(_: &Args, context: &Context) -> Result<Exit, Failure> {
    let answer = context.client.get(&Route::fixed("/v1/shards"))?;
    if context.global.json {
        output::line(&answer)?;
        return Ok(Exit::Ok);
    }
    let Shards { shards } = decode(&answer)?;
    if shards.is_empty() {
        output::note(context, "this host has its store to itself: it owns everything");
        return Ok(Exit::Ok);
    }
    let mut table = Table::new(&["SHARDS", "OWNER", "EPOCH"]);
    for run in shards.chunk_by(|a, b| a.owner == b.owner && a.epoch == b.epoch) {
        let (first, last) = (&run[0], &run[run.len() - 1]);
        let range = if run.len() == 1 { first.shard.to_string() } else { format!("{}-{}", first.shard, last.shard) };
        table.row([range, first.owner.clone().unwrap_or_else(|| "(free)".to_owned()), first.epoch.to_string()]);
    }
    output::line(&table.render())?;
    Ok(Exit::Ok)
}
