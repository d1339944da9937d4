//! The activity contract as Rust, generated from `wit/activity`. Only `call` and `host` speak these types.

wasmtime::component::bindgen!({
    path: "../../wit/activity",
    world: "activity",
    exports: { default: async },
});
