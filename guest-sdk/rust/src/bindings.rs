//! The guest contract as Rust, generated from `wit/`. The rest of the crate speaks its own types: only `host`,
//! `export` and `task` translate from and to these.

/// World `relive:workflow/workflow`.
#[doc(hidden)]
#[allow(missing_docs, clippy::all)]
pub mod workflow_world {
    wit_bindgen::generate!({
        world: "workflow",
        path: "../../wit",
        pub_export_macro: true,
        export_macro_name: "export_workflow",
        default_bindings_module: "relive_sdk::__private::workflow_world",
    });
}

/// World `relive:activity/activity`.
#[doc(hidden)]
#[allow(missing_docs, clippy::all)]
pub mod activity_world {
    wit_bindgen::generate!({
        world: "activity",
        path: "../../wit/activity",
        pub_export_macro: true,
        export_macro_name: "export_activity",
        default_bindings_module: "relive_sdk::__private::activity_world",
    });
}

pub use activity_world::export_activity;
pub use activity_world::exports::relive::activity::handler;
pub use workflow_world::export_workflow;
pub use workflow_world::exports::relive::workflow::reactor;
pub(crate) use workflow_world::relive::workflow::{durable, types};
