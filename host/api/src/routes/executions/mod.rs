//! Routes of executions: the collection, and `{id}` with what hangs below it. `?run_id=` names a run everywhere.

mod control;
mod fork;
mod history;
mod list;
mod logs;
mod queries;
mod replay;
mod result;
mod show;
mod signal;
mod start;
mod state;
mod steps;

use axum::{
    Router,
    routing::{get, post},
};
use relive_engine::Engine;

use super::verify;

pub use list::list;
pub use start::start;

/// The routes below `/executions/{id}`.
pub fn of_one() -> Router<Engine> {
    Router::new()
        .route("/", get(show::show))
        .route("/result", get(result::result))
        .route("/history", get(history::history))
        .route("/signals/{param}", post(signal::signal))
        .route("/queries", get(queries::all))
        .route("/queries/{param}", get(queries::one))
        .route("/logs", get(logs::logs))
        .route("/cancel", post(control::cancel))
        .route("/terminate", post(control::terminate))
        .route("/unblock", post(control::unblock))
        .route("/activities/{param}/pause", post(steps::pause))
        .route("/activities/{param}/resume", post(steps::resume))
        .route("/activities/{param}/reset", post(steps::reset))
        .route("/activities/{param}/update", post(steps::update))
        .route("/fork", post(fork::fork))
        .route("/replay", post(replay::replay))
        .route("/state", get(state::state))
        .route("/verify", post(verify::execution))
}
