//! Routes of executions: the collection, and `{id}` with what hangs below it. `?run_id=` names a run everywhere.

mod control;
mod export;
mod fork;
mod history;
pub(super) mod list;
mod logs;
mod queries;
mod replay;
mod result;
mod show;
mod signal;
pub(super) mod start;
mod state;
mod steps;

use relive_engine::Engine;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::verify;

/// The routes below `/executions/{id}`.
pub fn of_one() -> OpenApiRouter<Engine> {
    OpenApiRouter::new()
        .routes(routes!(show::show))
        .routes(routes!(result::result))
        .routes(routes!(history::history))
        .routes(routes!(export::export))
        .routes(routes!(signal::signal))
        .routes(routes!(queries::all))
        .routes(routes!(queries::one))
        .routes(routes!(logs::logs))
        .routes(routes!(control::cancel))
        .routes(routes!(control::terminate))
        .routes(routes!(control::unblock))
        .routes(routes!(control::migrate))
        .routes(routes!(steps::pause))
        .routes(routes!(steps::resume))
        .routes(routes!(steps::reset))
        .routes(routes!(steps::update))
        .routes(routes!(steps::redrive))
        .routes(routes!(steps::give_up))
        .routes(routes!(fork::fork))
        .routes(routes!(replay::replay))
        .routes(routes!(state::state))
        .routes(routes!(verify::execution))
}
