//! Every metric of an engine. `docs/operations/metrics.md` is made of it, and a test holds the two together.
//!
//! What dashboards of this field know has the name that it has there; the others begin with `relive_`.

use super::family::{Definition, Kind};

macro_rules! definitions {
    ($($name:ident $text:literal $kind:ident [$($label:literal)*] $meaning:literal;)*) => {
        $(pub(super) static $name: Definition =
            Definition { name: $text, kind: Kind::$kind, labels: &[$($label),*], meaning: $meaning };)*

        /// All of them, in the order in which they are shown.
        pub static DEFINITIONS: &[&Definition] = &[$(&$name),*];
    };
}

definitions! {
    STARTED "workflow_started" Counter [] "Runs that this host began, those of continue-as-new included.";
    COMPLETED "workflow_completed" Counter [] "Runs that completed.";
    FAILED "workflow_failed" Counter [] "Runs that failed.";
    CANCELED "workflow_canceled" Counter [] "Runs that ended as canceled.";
    TERMINATED "workflow_terminated" Counter [] "Runs that an operator, or a start that made room, ended.";
    CONTINUED "workflow_continue_as_new" Counter [] "Runs that ended by continuing as a new one.";
    ENDTOEND "workflow_endtoend_latency" Histogram [] "Seconds from a run's start to its end.";
    TURNS "workflow_task_execution_latency" Histogram [] "Seconds that a turn took: one event, and what the guest made of it.";
    REPLAYS "workflow_task_replay_latency" Histogram [] "Seconds that reliving a history took, reading it included.";
    SCHEDULE_TO_START "activity_schedule_to_start_latency" Histogram [] "Seconds from when an attempt was due until it began, in the host or in a worker.";
    ATTEMPTS "activity_execution_latency" Histogram [] "Seconds that an attempt ran, in the host or in a worker, however it ended.";
    ATTEMPTS_FAILED "activity_execution_failed" Counter ["kind"] "Attempts that failed or ran out of time, also those that are followed by another.";
    EXHAUSTED "relive_activities_exhausted_total" Counter [] "Activities that failed or timed out for good: no attempt follows, the workflow is told.";
    CACHE_HIT "sticky_cache_hit" Counter [] "Turns that found their guest in memory.";
    CACHE_MISS "sticky_cache_miss" Counter [] "Turns whose guest had to be woken, from an image or by reliving.";
    CACHE_SIZE "sticky_cache_size" Gauge [] "Guests in memory.";
    GUEST_BYTES "relive_guest_memory_bytes" Gauge [] "Memory of the guests in memory.";
    IMAGES "relive_images_in_memory" Gauge [] "Memory images of cold guests that are held in memory.";
    CAPTURED "relive_images_captured_total" Counter [] "Memory images taken.";
    LAID "relive_images_laid_total" Counter [] "Guests woken from an image.";
    IGNORED "relive_images_ignored_total" Counter [] "Images that did not fit: those guests relived.";
    APPENDS "persistence_latency" Histogram [] "Seconds that a commit took: everything that had queued up, written and synced.";
    BATCHES "persistence_batch_size" Histogram [] "Items (turns, mostly) that a commit held.";
    APPEND_ERRORS "persistence_errors" Counter ["kind"] "Items that the store refused. `conflict` is ordinary; the others are trouble.";
    IN_FLIGHT "relive_appends_in_flight" Gauge [] "Items that are with the committer now.";
    COMMITS "relive_commits_total" Counter [] "Commits, as the store counts them.";
    EXECUTIONS "relive_executions" Gauge ["status"] "Open executions in the store, of all hosts. A few seconds old.";
    BLOCKED "relive_executions_blocked" Gauge ["reason"] "Executions that need an operator, by reason. A few seconds old.";
    BEHIND "relive_executions_behind" Gauge [] "Executions with events that their guest has not seen yet. A few seconds old.";
    FAILED_TASKS "relive_failed_tasks" Gauge [] "Activities that are held for an operator: their last attempt was never answered (`relive failed-tasks list`). A few seconds old.";
    RUNNING "relive_activities_running" Gauge [] "Attempts that run in this host now.";
    BACKLOG "relive_task_queue_backlog" Gauge ["namespace" "task_queue"] "Attempts that are ready and wait for a worker.";
    AGE "relive_task_queue_age_seconds" Gauge ["namespace" "task_queue"] "How long the oldest of them has waited; 0 if none does.";
    CLAIMED "relive_task_queue_claimed" Gauge ["namespace" "task_queue"] "Attempts that workers have.";
    POLLERS "relive_task_queue_pollers" Gauge ["namespace" "task_queue"] "Polls that wait for work.";
    WORKERS "relive_workers" Gauge ["state"] "Workers that are there.";
    WORKERS_LOST "relive_workers_lost_total" Counter [] "Workers that were not heard of any more.";
    BREAKERS "relive_breaker_state" Gauge ["namespace" "activity" "target"] "Circuit breakers of deployed activities: 0 closed, 1 half-open, 2 open.";
    TIMERS "relive_timer_lateness_seconds" Histogram [] "Seconds from a timer's deadline until its owner took it.";
    OUTBOX "relive_outbox_lag_seconds" Gauge [] "How long the oldest event of the feed has waited to be published; 0 without `--event-feed`.";
    RECOVERED "relive_recovered_total" Counter [] "Executions that were woken after a start because they had something to do.";
    FINDINGS "relive_audit_findings_total" Counter [] "Differences that the auditor found between guests and their memory images.";
    READY "relive_ready" Gauge [] "1 if the host takes work, as /readyz says; 0 while it recovers, drains, or cannot write.";
    BUILD "relive_build_info" Gauge ["version"] "Always 1.";
    RSS "process_resident_memory_bytes" Gauge [] "Memory of the process.";
    FDS "process_open_fds" Gauge [] "Open descriptors of the process.";
    BEGAN "process_start_time_seconds" Gauge [] "When the host started, in seconds since the Unix epoch.";
}
