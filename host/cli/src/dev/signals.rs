//! SIGINT and SIGTERM: the first ends the host in good order, the second at once.

use std::sync::Arc;

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::Notify,
};

use crate::{
    exit::{Exit, Failure},
    output,
};

/// What shells expect of a program that was interrupted.
const INTERRUPTED: i32 = 130;

/// Watches for both from now on. Called within a runtime.
pub fn watch(stop: &Arc<Notify>) -> Result<(), Failure> {
    let listen = |kind| {
        signal(kind).map_err(|e| Failure::new(Exit::Failed, "signals", format!("failed to watch for signals: {e}")))
    };
    let (mut interrupt, mut terminate) = (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
    let stop = Arc::clone(stop);
    tokio::spawn(async move {
        next(&mut interrupt, &mut terminate).await;
        output::complain("ending in good order; once more ends it at once");
        stop.notify_one();
        next(&mut interrupt, &mut terminate).await;
        std::process::exit(INTERRUPTED);
    });
    Ok(())
}

async fn next(interrupt: &mut Signal, terminate: &mut Signal) {
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}
