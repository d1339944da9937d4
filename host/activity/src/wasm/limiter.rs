//! What a wasm activity may use: memory, tables, instances, handles, output; per call and over all calls.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use wasmtime::ResourceLimiter;

/// Linear memory of one call, over all memories of its component. Interpreters take about 100 MB.
pub const MAX_MEMORY_BYTES: usize = 256 << 20;
/// Linear memory of all calls together: the host's own share of the machine must stay.
pub const MAX_TOTAL_MEMORY_BYTES: usize = 2 << 30;
/// Elements over all tables of one call; CPython has about 10,000.
pub const MAX_TABLE_ELEMENTS: usize = 200_000;
/// Core instances of one call; CPython's component makes 14, and admission lets a component name more.
pub(crate) const MAX_INSTANCES: usize = 256;
/// Memories and tables of one call: as many as admission lets a component have.
pub(crate) const MAX_MEMORIES: usize = 4;
pub(crate) const MAX_TABLES: usize = 64;
/// Open files, streams, requests and pollables of one call.
pub(crate) const MAX_HANDLES: usize = 1_024;
/// Bytes that a guest passes to the host in one call: a result at its limit, and an error message's worth more.
pub(crate) const HOSTCALL_BYTES: usize = 4 << 20;
/// Random bytes that a guest may ask for at once.
pub(crate) const MAX_RANDOM_BYTES: u64 = 1 << 20;

/// The limits that a deployment may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WasmLimits {
    /// Bytes of linear memory that one call may have.
    pub memory_bytes: usize,
    /// Bytes of linear memory that all calls may have together.
    pub total_memory_bytes: usize,
    /// Table elements that one call may have.
    pub table_elements: usize,
}

impl Default for WasmLimits {
    fn default() -> Self {
        Self {
            memory_bytes: MAX_MEMORY_BYTES,
            total_memory_bytes: MAX_TOTAL_MEMORY_BYTES,
            table_elements: MAX_TABLE_ELEMENTS,
        }
    }
}

/// Memory of all calls of a host.
#[derive(Debug, Default)]
pub(crate) struct MemoryBudget(AtomicUsize);

impl MemoryBudget {
    pub(crate) fn used(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    fn take(&self, bytes: usize, limit: usize) -> bool {
        let grown = |used: usize| used.checked_add(bytes).filter(|sum| *sum <= limit);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, grown).is_ok()
    }
}

/// One call's account.
pub(crate) struct Limiter {
    limits: WasmLimits,
    budget: Arc<MemoryBudget>,
    memory: usize,
    elements: usize,
    /// The growth that was refused last: why a trap came, most likely.
    refused: Option<String>,
}

impl Limiter {
    pub(crate) fn new(limits: WasmLimits, budget: Arc<MemoryBudget>) -> Self {
        Self { limits, budget, memory: 0, elements: 0, refused: None }
    }

    pub(crate) fn refused(&self) -> Option<&str> {
        self.refused.as_deref()
    }
}

impl ResourceLimiter for Limiter {
    fn memory_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        let more = desired.saturating_sub(current);
        let sum = self.memory.saturating_add(more);
        if sum > self.limits.memory_bytes {
            let limit = self.limits.memory_bytes;
            self.refused = Some(format!("it asked for {sum} bytes of memory; {limit} are allowed a call"));
            return Ok(false);
        }
        if !self.budget.take(more, self.limits.total_memory_bytes) {
            let limit = self.limits.total_memory_bytes;
            self.refused =
                Some(format!("all wasm activities of this host together have their {limit} bytes of memory"));
            return Ok(false);
        }
        self.memory = sum;
        Ok(true)
    }

    fn table_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        let sum = self.elements.saturating_add(desired.saturating_sub(current));
        if sum > self.limits.table_elements {
            let limit = self.limits.table_elements;
            self.refused = Some(format!("it asked for {sum} table elements; {limit} are allowed a call"));
            return Ok(false);
        }
        self.elements = sum;
        Ok(true)
    }

    fn instances(&self) -> usize {
        MAX_INSTANCES
    }

    fn tables(&self) -> usize {
        MAX_TABLES
    }

    fn memories(&self) -> usize {
        MAX_MEMORIES
    }
}

impl Drop for Limiter {
    fn drop(&mut self) {
        self.budget.0.fetch_sub(self.memory, Ordering::Relaxed);
    }
}
