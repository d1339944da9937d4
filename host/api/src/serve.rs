//! The listener: one task a connection, limits on their number and on slow clients, and a shutdown that lets answers
//! out. hyper is driven directly because `axum::serve` has no timeout for request heads.

use std::{convert::Infallible, future::Future, io, net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use axum::{Router, extract::Request};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
    task::JoinSet,
};
use tower::Service;

use crate::connection::Connection;

/// A head is a few hundred bytes. The clock runs on idle keep-alive connections as well, so it is not shorter.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// Each connection costs a descriptor and some 10 KB; a long poll holds one. More wait in the kernel's backlog.
const MAX_CONNECTIONS: usize = 4_096;
/// At shutdown, answers that are being written may take this long.
const DRAIN: Duration = Duration::from_secs(5);
/// Out of descriptors: accepting again at once would only burn CPU.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves until `shutdown` resolves and the connections are drained; what takes longer than `DRAIN` is cut off.
pub async fn serve(listener: TcpListener, router: Router, shutdown: impl Future<Output = ()>) -> io::Result<()> {
    let loopback = listener.local_addr()?.ip().is_loopback();
    let (stop, stopping) = watch::channel(false);
    let connection = Connection { stopping, loopback };
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut tasks = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            Some(_) = tasks.join_next(), if !tasks.is_empty() => {}
            (stream, slot) = accept(&listener, &slots) => {
                let (router, connection) = (router.clone(), connection.clone());
                tasks.spawn(async move {
                    drive(stream, router, connection).await;
                    drop(slot);
                });
            }
        }
    }
    drop(listener);
    // Nobody listening means that there is no connection.
    let _ = stop.send(true);
    let drained = tokio::time::timeout(DRAIN, async { while tasks.join_next().await.is_some() {} }).await;
    if drained.is_err() {
        tracing::warn!(connections = tasks.len(), "cut connections off that did not end in time");
        tasks.shutdown().await;
    }
    Ok(())
}

async fn accept(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
) -> (TcpStream, Option<tokio::sync::OwnedSemaphorePermit>) {
    // The semaphore is never closed: `None` cannot be.
    let slot = Arc::clone(slots).acquire_owned().await.ok();
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                set_no_delay(&stream, peer);
                return (stream, slot);
            }
            Err(error) => {
                tracing::warn!(%error, "failed to accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Nagle's algorithm and delayed acknowledgements together cost 40 ms an answer.
fn set_no_delay(stream: &TcpStream, peer: SocketAddr) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, %peer, "failed to set TCP_NODELAY");
    }
}

async fn drive(stream: TcpStream, router: Router, connection: Connection) {
    let of_requests = connection.clone();
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(of_requests.clone());
        let mut router = router.clone();
        async move { Ok::<_, Infallible>(answer(&mut router, request).await) }
    });
    let http = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service);
    let mut http = pin!(http);
    let mut stopping = pin!(connection.stopping());
    let ended = tokio::select! {
        ended = http.as_mut() => ended,
        () = stopping.as_mut() => {
            http.as_mut().graceful_shutdown();
            http.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended early");
    }
}

async fn answer(router: &mut Router, request: Request<Incoming>) -> axum::response::Response {
    match router.call(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
}
