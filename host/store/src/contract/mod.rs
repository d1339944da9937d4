//! The suite that every adapter of the store ports must pass.
//!
//! One function a behaviour, over a fresh store. An adapter's test calls [`contract_suite!`](crate::contract_suite)
//! with a function that opens a store and hands it to the case. Panics are findings: this is test code.

mod catalog;
mod cluster;
pub mod database;
mod fencing;
mod history;
mod images;
mod indexes;
pub mod support;
mod workers;

use relive_core::ports::{Catalog, ClusterStore, HistoryStore, ImageStore, WorkerStore};

pub use catalog::*;
pub use cluster::*;
pub use fencing::*;
pub use history::*;
pub use images::*;
pub use indexes::*;
pub use workers::*;

/// What an adapter must be to be tested.
pub trait Store: HistoryStore + Catalog + ImageStore {}

impl<T: HistoryStore + Catalog + ImageStore> Store for T {}

/// What an adapter must be that hosts share.
pub trait SharedStore: Store + ClusterStore + WorkerStore {}

impl<T: Store + ClusterStore + WorkerStore> SharedStore for T {}

/// Makes a test of each case of the cluster port; the cases are `fn(&dyn SharedStore)`.
#[macro_export]
macro_rules! cluster_suite {
    ($with:path) => {
        $crate::contract_suite! { @ $with;
            two_hosts_see_each_other one_id_belongs_to_one_process free_shards_are_claimed_once a_dead_hosts_shards_are_taken
            shards_are_let_go_in_good_order a_draining_host_gets_no_more claims_at_once_give_a_shard_to_one
            who_takes_a_run_fences_the_owner_before an_owner_of_before_begins_no_run the_catalogs_revision_grows
            workers_come_and_go workers_are_replaced silent_workers_are_lost there_are_only_so_many_workers
            workers_are_listed_with_what_they_have
        }
    };
}

/// Makes a test of each case. `$with` is a function that takes a case, `fn(&dyn Store)`, and runs it on a new store.
#[macro_export]
macro_rules! contract_suite {
    ($with:path) => {
        $crate::contract_suite! { @ $with;
            append_and_read_back start_again_finds_its_own_event conflict_has_the_tail a_tail_is_whole unknown_run closed_run
            gaps_are_malformed foreign_hashes_are_malformed times_never_run_back row_must_agree_with_events
            item_is_whole_or_nothing bad_items_leave_their_neighbours two_items_of_a_run_in_a_batch empty_batch
            payload_at_the_limit large_events_come_back_as_they_were a_run_goes_on_on_another_component successor_in_the_same_item bad_successor_refuses_the_whole already_started
            id_is_free_after_the_end many_events concurrent_writers concurrent_starts
            stale_epoch_is_fenced later_epoch_takes_over stamping taking taking_together what_wakes_a_guest_comes_along outsiders_append_only_their_events outsiders_keep_the_owners_numbers
            inbound_keys_are_unique lost_replies
            wake_index timers_in_order timer_fires_with_its_event tasks_come_and_go removals_win the_end_clears_work crashes_are_counted claims_are_kept exhausted_tasks_are_held
            find_by_name list_and_page published_values log_lines blocked_and_unblocked open_ones_are_counted runs_are_counted_by_version keys_are_never_repeated
            images_are_kept_by_generation images_ride_on_appends images_go_with_their_run
            components versions_are_numbered activations_follow_each_other versions_are_deleted reports_of_preflights_are_kept activities_by_name activities_change_their_kind queues_have_limits
        }
    };
    (@ $with:path; $($name:ident)*) => {
        $(#[test] fn $name() { $with($crate::contract::$name); })*
    };
}
