//! `relive result ID`: the result on stdout exactly as the workflow returned it; a failure on stderr and exit code 5.

use std::time::Duration;

use relive_engine::views::ResultView;

use crate::{
    Context,
    client::decode,
    exit::{Exit, Failure},
    output::parse_duration,
    wait,
};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The execution's id
    id: String,
    /// Wait for the end, also while the host restarts
    #[arg(long)]
    wait: bool,
    /// Wait this long at most (500ms, 30s, 5m)
    #[arg(long, value_parser = parse_duration, requires = "wait", value_name = "TIME")]
    timeout: Option<Duration>,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<Exit, Failure> {
    let (answer, view) = if args.wait {
        wait::for_result(context, &args.id, args.timeout)?
    } else {
        let answer = context.client.get(&context.client.execution(&args.id, &["result"]))?;
        let view: ResultView = decode(&answer)?;
        (answer, view)
    };
    wait::tell(context, &args.id, &answer, &view)
}
