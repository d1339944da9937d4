//! What the host needs of the world: small traits that adapters implement. Their calls block, so they are made from
//! threads that may block (those of activities and of the broker give futures); docs say where the durability point is, which errors there are, and who retries.

mod activation;
mod activity;
mod catalog;
mod census;
mod clock;
mod cluster;
mod images;
mod outbox;
mod queue;
mod queue_limits;
mod store;
mod take;
mod workers;

pub use activation::{Activation, ActivationKind, Canary, CanaryLimits, Standing, WHOLE};
pub use activity::{ActivityRunner, ActivityTask, AnswerToken, AttemptEnd, AttemptResult};
pub use catalog::{ActivityRow, Catalog, ComponentMeta, Implementation, PreflightRow, VersionRow};
pub use census::{Census, VersionCount};
pub use clock::Clock;
pub use cluster::{BeatError, Claimed, ClusterStore, ClusterView, HostBeat, HostRow, ShardRow};
pub use images::{ImageStore, KEPT_IMAGES, StoredImage};
pub use outbox::{Outbox, Unpublished};
pub use queue::{
    Delivery, EventFeed, FeedEvent, Fetched, PublishCount, QueueDepth, QueueError, QueueErrorKind, QueueName, Receipt,
    Signal, Signals, TaskMessage, TaskQueue,
};
pub use queue_limits::{MAX_AT_ONCE, QueueLimits, QueueRow, RATES, RateLimit};
pub use store::{
    AppendError, AppendItem, Appended, Claim, ExecutionRow, Exhausted, HistoryStore, ListFilter, NewExecution,
    Published, RowChange, Status, StoreError, StoreErrorKind, TaskRow, TimerRow,
};
pub use take::{PREPARED_EVENT_BYTES, PREPARED_EVENTS, PREPARED_IMAGE_BYTES, Prepared, Taken, WakingKit, Wanted};
pub use workers::{Replaces, WorkerEnd, WorkerRow, WorkerStore};
