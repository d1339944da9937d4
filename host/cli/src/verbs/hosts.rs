//! `relive hosts`: the hosts of a cluster.

use serde::Deserialize;

use crate::{
    Context,
    client::{Route, decode},
    exit::{Exit, Failure},
    output::{self, Table, duration},
};

#[derive(Debug, clap::Args)]
pub struct Args {}

#[derive(Deserialize)]
struct Hosts {
    clustered: bool,
    #[serde(default)]
    hosts: Vec<Host>,
}

#[derive(Deserialize)]
struct Host {
    id: String,
    address: String,
    version: String,
    state: String,
    silent_ms: u64,
    shards: u64,
}

pub(crate) fn run(_: &Args, context: &Context) -> Result<Exit, Failure> {
    let answer = context.client.get(&Route::fixed("/v1/hosts"))?;
    if context.global.json {
        output::line(&answer)?;
        return Ok(Exit::Ok);
    }
    let hosts: Hosts = decode(&answer)?;
    if !hosts.clustered {
        output::note(context, "this host has its store to itself: there are no others");
        return Ok(Exit::Ok);
    }
    let mut table = Table::new(&["HOST", "STATE", "SHARDS", "ADDRESS", "HEARD", "VERSION"]);
    for host in hosts.hosts {
        let heard = format!("{} ago", duration(host.silent_ms.saturating_mul(1_000_000)));
        table.row([host.id, host.state, host.shards.to_string(), host.address, heard, host.version]);
    }
    output::line(&table.render())?;
    Ok(Exit::Ok)
}
