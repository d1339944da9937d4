//! `relive openapi`: the document of the HTTP interface, without a host.

use crate::{
    exit::{Exit, Failure},
    output,
};

#[derive(Debug, clap::Args)]
pub struct Args {}

pub(crate) fn run(_: &Args) -> Result<Exit, Failure> {
    output::line(relive_api::openapi())?;
    Ok(Exit::Ok)
}
