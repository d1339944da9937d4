//! Workers over NATS: what they ask there is asked of the API's router, as if it had come over HTTP.

use std::{future::Future, pin::pin, sync::Arc, time::Duration};

use futures_util::FutureExt;
use relive_api::{DirectRequest, direct};
use relive_core::ports::QueueError;
use relive_engine::Engine;
use relive_queue::{NatsOptions, NatsQueue, WorkerAnswer, WorkerRequest};

/// Between two tries to listen while NATS is away.
const PAUSE: Duration = Duration::from_secs(1);

/// A bridge that is ready to serve.
pub struct Bridge {
    nats: Arc<NatsQueue>,
}

impl Bridge {
    /// Reads the settings; a server that is away is waited for by [`Self::serve`].
    pub async fn open(options: NatsOptions) -> Result<Self, QueueError> {
        let nats = NatsQueue::connect(NatsOptions { wait_for_server: true, ..options }).await?;
        Ok(Self::over(Arc::new(nats)))
    }

    /// Over a connection that is there.
    pub fn over(nats: Arc<NatsQueue>) -> Self {
        Self { nats }
    }

    /// Answers workers until `stop` is ready.
    pub async fn serve(self, engine: Engine, stop: impl Future<Output = ()>) {
        let router = relive_api::router(engine);
        let mut stop = pin!(stop.fuse());
        loop {
            let router = router.clone();
            let desk = move |request: WorkerRequest| {
                let router = router.clone();
                async move {
                    let direct_request = DirectRequest {
                        method: request.method,
                        path: &request.path,
                        body: request.body,
                        correlation_id: request.correlation_id.as_deref(),
                        authorization: request.authorization.as_deref(),
                    };
                    let (status, body) = direct(router, direct_request).await;
                    WorkerAnswer { status, body }
                }
                .boxed()
            };
            match self.nats.serve_workers(desk, stop.as_mut()).await {
                Ok(()) => break,
                Err(error) => tracing::warn!(%error, "workers are not heard over NATS; trying again"),
            }
            tokio::select! {
                () = stop.as_mut() => break,
                () = tokio::time::sleep(PAUSE) => {}
            }
        }
        self.nats.close().await;
    }
}
