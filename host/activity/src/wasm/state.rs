//! What a store of one call holds, and the views through which WASI sees it.

use std::sync::Arc;

use wasmtime::component::ResourceTable;
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use super::access::OpenGrants;
use super::limiter::{Limiter, MAX_HANDLES};
use super::outbound::Outbound;
use super::output::{LogOutput, Output};
use crate::grants::GrantError;

pub(crate) struct CallState {
    wasi: WasiCtx,
    http: WasiHttpCtx,
    outbound: Outbound,
    table: ResourceTable,
    pub(crate) limiter: Limiter,
    _output: [LogOutput; 2],
}

impl CallState {
    pub(crate) fn new(grants: &OpenGrants, limiter: Limiter) -> Result<Self, GrantError> {
        let (stdout, stderr) = (Output::new("stdout"), Output::new("stderr"));
        let wasi = grants.context(&stdout, &stderr)?;
        let mut table = ResourceTable::new();
        table.set_max_capacity(MAX_HANDLES);
        let outbound = Outbound(Arc::clone(&grants.http));
        let _output = [LogOutput(stdout), LogOutput(stderr)];
        Ok(Self { wasi, http: WasiHttpCtx::new(), outbound, table, limiter, _output })
    }
}

impl WasiView for CallState {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl WasiHttpView for CallState {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { hooks: &mut self.outbound, table: &mut self.table, ctx: &mut self.http }
    }
}
