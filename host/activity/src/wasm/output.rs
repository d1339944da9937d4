//! What an activity writes to stdout and stderr: kept up to a bound, and logged when its call ends or is dropped.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::io::AsyncWrite;
use wasmtime_wasi::async_trait;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};

/// Bytes kept of each stream; the rest is counted and thrown away, as a call must not fail for talking too much.
pub(crate) const MAX_OUTPUT_BYTES: usize = 64 << 10;

/// Bytes that the guest may write at once.
const WRITE_BYTES: usize = 64 << 10;

#[derive(Default)]
struct Captured {
    kept: Vec<u8>,
    lost: usize,
}

/// One stream of one call. Clones share what was written.
#[derive(Clone)]
pub(crate) struct Output {
    name: &'static str,
    captured: Arc<Mutex<Captured>>,
}

impl Output {
    pub(crate) fn new(name: &'static str) -> Self {
        Self { name, captured: Arc::default() }
    }

    fn keep(&self, bytes: &[u8]) {
        let mut captured = self.captured.lock();
        let room = MAX_OUTPUT_BYTES.saturating_sub(captured.kept.len()).min(bytes.len());
        captured.kept.extend_from_slice(&bytes[..room]);
        captured.lost += bytes.len() - room;
    }
}

/// Logs the output when it goes out of scope; the span around the attempt says whose it is.
pub(crate) struct LogOutput(pub(crate) Output);

impl Drop for LogOutput {
    fn drop(&mut self) {
        let captured = self.0.captured.lock();
        let stream = self.0.name;
        for line in String::from_utf8_lossy(&captured.kept).lines() {
            tracing::debug!(stream, "{line}");
        }
        if captured.lost > 0 {
            tracing::debug!(stream, lost_bytes = captured.lost, "the activity wrote more than is kept");
        }
    }
}

impl IsTerminal for Output {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Output {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

#[async_trait]
impl Pollable for Output {
    async fn ready(&mut self) {}
}

impl OutputStream for Output {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.keep(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(WRITE_BYTES)
    }
}

impl AsyncWrite for Output {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        self.keep(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
