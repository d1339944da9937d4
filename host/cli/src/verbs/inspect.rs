//! `relive inspect FILE`: what the host finds out about a component. Nothing of it is kept.

use std::path::PathBuf;

use relive_core::Json;

use crate::{
    Context,
    client::decode,
    exit::{Exit, Failure},
    input::unreadable,
    output::{self, Indented},
    progress::while_doing,
};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The .wasm file
    file: PathBuf,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<Exit, Failure> {
    let bytes = std::fs::read(&args.file).map_err(|e| unreadable(&args.file.display().to_string(), &e))?;
    let route = context.client.namespace("components/inspect");
    let answer =
        while_doing("the host checks and compiles it", context.global.json, || context.client.upload(&route, &bytes))?;
    if context.global.json {
        output::line(&answer)?;
    } else {
        output::line(&Indented(&decode::<Json>(&answer)?).to_string())?;
    }
    Ok(Exit::Ok)
}
