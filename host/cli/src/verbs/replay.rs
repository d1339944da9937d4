//! `relive replay ID`: exit code 6 if code and history do not agree.

use std::path::PathBuf;

use crate::{
    Context,
    client::decode,
    exit::{Exit, Failure},
    input::unreadable,
    output::{self, duration, plain},
    progress::while_doing,
    wire::{Replay, short},
};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The execution's id
    id: String,
    /// Relive it on this component instead of its own
    #[arg(long, value_name = "FILE")]
    wasm: Option<PathBuf>,
    /// The last event to apply
    #[arg(long, value_name = "EVENT")]
    to: Option<u64>,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<Exit, Failure> {
    let wasm = match &args.wasm {
        Some(path) => std::fs::read(path).map_err(|e| unreadable(&path.display().to_string(), &e))?,
        None => Vec::new(),
    };
    let route = context.client.execution(&args.id, &["replay"]).query_if("to", args.to);
    let answer = while_doing("reliving", context.global.json, || context.client.upload(&route, &wasm))?;
    let replay: Replay = decode(&answer)?;
    let exit = if replay.agrees { Exit::Ok } else { Exit::Findings };
    if context.global.json {
        output::line(&answer)?;
        return Ok(exit);
    }
    let relived = format!(
        "relived {} events and {} commands in {} on {}",
        replay.events,
        replay.commands,
        duration(replay.micros.saturating_mul(1_000)),
        short(&replay.digest)
    );
    output::line(&relived)?;
    if let Some(memory) = &replay.memory {
        output::line(&format!("memory {memory}"))?;
    }
    if replay.agrees {
        output::line("code and history agree")?;
    }
    if let Some(divergence) = &replay.divergence {
        let event = divergence.event_id.map_or_else(String::new, |id| format!(" (event {id})"));
        output::line(&format!(
            "they diverge at command {}{event}, after event {}:",
            divergence.command_no, divergence.after_event
        ))?;
        output::line(&format!("  history holds  {}", plain(&divergence.history)))?;
        output::line(&format!("  the code asks  {}", plain(&divergence.code)))?;
        output::line(&format!("  they agree up to command {}", divergence.last_agreed))?;
    }
    if let Some(fault) = &replay.fault {
        output::line(&format!("the guest did not come through: {}", plain(fault)))?;
    }
    Ok(exit)
}
