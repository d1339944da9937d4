//! The verbs: a file each, listed and dispatched here.

mod activity;
mod cancel;
pub mod compile_component;
mod completions;
mod deploy;
mod dev;
mod doctor;
mod export;
mod failed_tasks;
mod fork;
mod history;
mod hosts;
mod inspect;
mod list;
mod logs;
mod migrate;
mod migrate_store;
mod openapi;
mod preflight;
mod query;
mod replay;
mod result;
mod serve;
mod shards;
mod show;
mod sign;
mod signal;
mod start;
mod state;
mod task_queue;
mod terminate;
mod unblock;
mod verify;
mod versions;
mod worker;
mod workflows;

use clap::Subcommand;

pub use dev::Args as DevArgs;
pub use serve::Args as ServeArgs;

use crate::{
    Context,
    exit::{Exit, Failure},
};

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Run a host: one process, one data directory, this machine only
    Dev(dev::Args),
    /// Run one host of a cluster, on a store that hosts share
    Serve(Box<serve::Args>),
    /// Bring the schema of a shared store up to this program's
    MigrateStore(migrate_store::Args),
    /// Show what the host finds out about a component, deploying nothing
    Inspect(inspect::Args),
    /// Deploy a component's workflows, or everything that a relive.toml names
    Deploy(deploy::Args),
    /// Sign a component for hosts that require it
    Sign(sign::Args),
    /// List deployed workflows with their versions, and activities
    Workflows(workflows::Args),
    /// Show a workflow's versions, how they do, and which of them new runs take
    Versions(versions::Args),
    /// Relive executions of a workflow on other code, without effects, and say which agree
    Preflight(preflight::Args),
    /// Have new runs of a workflow take a version, all of them or a share
    Activate(versions::ActivateArgs),
    /// Have new runs of a workflow take what they took before
    Rollback(versions::RollbackArgs),
    /// Start an execution
    Start(start::Args),
    /// Show how an execution ended, or wait for it
    Result(result::Args),
    /// List executions, newest first
    List(list::Args),
    /// Show one execution: steps, attempts, what it waits for
    Show(show::Args),
    /// Show an execution's history
    History(history::Args),
    /// Write histories of a workflow to files, to check code against without a host
    Export(export::Args),
    /// Send a message to an execution
    Signal(signal::Args),
    /// Read what an execution published
    Query(query::Args),
    /// Show what an execution logged
    Logs(logs::Args),
    /// Ask an execution to cancel; it may clean up
    Cancel(cancel::Args),
    /// End an execution without asking it
    Terminate(terminate::Args),
    /// Put executions on another version, where that one agrees with their histories
    Migrate(migrate::Args),
    /// Let a blocked execution try again
    Unblock(unblock::Args),
    /// Relive an execution without effects and say whether code and history agree
    Replay(replay::Args),
    /// Show open promises, steps and published values at any event
    State(state::Args),
    /// Make a new execution of another's history up to an event
    Fork(fork::Args),
    /// Task queues: what waits for workers
    TaskQueue(task_queue::Args),
    /// Workers: who takes tasks
    Worker(worker::Args),
    /// Activities that are not resolved, and answers for them by token
    Activity(activity::Args),
    /// Activities whose attempts are exhausted: have them begin again, or give them up
    FailedTasks(failed_tasks::Args),
    /// The hosts of a cluster
    Hosts(hosts::Args),
    /// Who owns which shard of a cluster
    Shards(shards::Args),
    /// Check stored histories
    Verify(verify::Args),
    /// Check this machine, the data directory and the host
    Doctor(doctor::Args),
    /// Print the OpenAPI document of the HTTP interface
    Openapi(openapi::Args),
    /// Print a completion script for a shell
    Completions(completions::Args),
}

/// Runs a verb.
pub(crate) fn run(verb: Verb, context: &Context) -> Result<Exit, Failure> {
    match verb {
        Verb::Dev(args) => dev::run(&args, context),
        Verb::Serve(args) => serve::run(&args, context),
        Verb::MigrateStore(args) => migrate_store::run(&args, context),
        Verb::Inspect(args) => inspect::run(&args, context),
        Verb::Deploy(args) => deploy::run(&args, context),
        Verb::Sign(args) => sign::run(&args, context),
        Verb::Workflows(args) => workflows::run(&args, context),
        Verb::Versions(args) => versions::run(&args, context),
        Verb::Preflight(args) => preflight::run(&args, context),
        Verb::Activate(args) => versions::activate(&args, context),
        Verb::Rollback(args) => versions::rollback(&args, context),
        Verb::Start(args) => start::run(&args, context),
        Verb::Result(args) => result::run(&args, context),
        Verb::List(args) => list::run(&args, context),
        Verb::Show(args) => show::run(&args, context),
        Verb::History(args) => history::run(&args, context),
        Verb::Export(args) => export::run(&args, context),
        Verb::Signal(args) => signal::run(&args, context),
        Verb::Query(args) => query::run(&args, context),
        Verb::Logs(args) => logs::run(&args, context),
        Verb::Cancel(args) => cancel::run(&args, context),
        Verb::Terminate(args) => terminate::run(&args, context),
        Verb::Migrate(args) => migrate::run(&args, context),
        Verb::Unblock(args) => unblock::run(&args, context),
        Verb::Replay(args) => replay::run(&args, context),
        Verb::State(args) => state::run(&args, context),
        Verb::Fork(args) => fork::run(&args, context),
        Verb::TaskQueue(args) => task_queue::run(&args, context),
        Verb::Worker(args) => worker::run(&args, context),
        Verb::Activity(args) => activity::run(&args, context),
        Verb::FailedTasks(args) => failed_tasks::run(&args, context),
        Verb::Hosts(args) => hosts::run(&args, context),
        Verb::Shards(args) => shards::run(&args, context),
        Verb::Verify(args) => verify::run(&args, context),
        Verb::Doctor(args) => doctor::run(&args, context),
        Verb::Openapi(args) => openapi::run(&args),
        Verb::Completions(args) => completions::run(&args),
    }
}
