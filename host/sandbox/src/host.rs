//! The host's side of `relive:workflow/durable`: every call goes to the cursor that lives in the guest's store.
//!
//! Owns: the store's data, translation between the contract's types and core's, growth limits. Decides nothing: what
//! a call means stands in `relive_core::cursor`. Must not know: how instances are made or called.

use relive_core::cursor::{Call, CallError, Cursor, LogLevel, Stop};
use relive_core::limits::{MAX_RANDOM_BYTES, RunLimits};
use relive_core::options::{ActivityOptions, CancellationType};
use relive_core::retry::RetryPolicy;
use wasmtime::ResourceLimiter;

use crate::bindings::relive::workflow::{durable, types};

/// Core instances that one guest may make; toolchains make 14 at most. Nested components can multiply what the
/// structural cap counts.
const MAX_STORE_INSTANCES: usize = 512;

/// Tables and memories of one guest, counted over all its core instances; the structure is capped before.
const MAX_STORE_ITEMS: usize = 128;

/// Fuel of a call of the host, whatever it asks for.
const CALL_FUEL: u64 = 100;

/// Fuel of a byte that is handed to the host or asked of it: it is copied, checked to be UTF-8, and often parsed.
const BYTE_FUEL: u64 = 2;

/// Bytes that an element of a list counts beside its text.
const ELEMENT_BYTES: usize = 64;

/// Bytes that `info` answers, about.
const INFO_BYTES: usize = 512;

/// Bytes that `uuid` answers.
const UUID_BYTES: usize = 36;

/// The data of a guest's store.
#[derive(Debug)]
pub(crate) struct HostState {
    pub(crate) cursor: Cursor,
    pub(crate) growth: Growth,
    /// Calls that the guest made, those during instantiation included.
    pub(crate) import_calls: u64,
    /// Fuel that is left for what the host does for the guest in this call. The engine's own fuel counts the guest's
    /// instructions alone, and one of them can have the host read megabytes.
    pub(crate) host_fuel: u64,
    /// The workflow has started; before, `info` would make two fresh instances differ.
    pub(crate) started: bool,
    /// Instantiation may not call the host: admission saw that it does not, and images rest on it.
    pub(crate) sealed: bool,
}

impl HostState {
    pub(crate) fn new(cursor: Cursor) -> Self {
        let growth = Growth::new(&cursor.run().limits);
        Self { cursor, growth, import_calls: 0, host_fuel: 0, started: false, sealed: false }
    }

    /// Counts a call that hands over or asks for so many bytes.
    fn called(&mut self, bytes: usize) -> wasmtime::Result<&mut Cursor> {
        self.import_calls += 1;
        if self.sealed {
            let what = "instantiation called the host, and did not when the component was admitted";
            return Err(wasmtime::Error::new(Stop::Contract(what.to_owned())));
        }
        let cost = (bytes as u64).saturating_mul(BYTE_FUEL).saturating_add(CALL_FUEL);
        self.host_fuel = self.host_fuel.checked_sub(cost).ok_or_else(|| wasmtime::Error::new(HostWork))?;
        Ok(&mut self.cursor)
    }
}

/// The guest had the host do more than a turn may cost.
#[derive(Debug, thiserror::Error)]
#[error("all fuel for calls of the host is consumed")]
pub(crate) struct HostWork;

/// Decides about growth by fixed caps alone: the guest sees the same answer on every machine.
#[derive(Debug)]
pub(crate) struct Growth {
    memory_cap: usize,
    table_cap: usize,
    /// The last growth that was denied, in words.
    pub(crate) denied: Option<String>,
    /// Whether the growth at hand was denied.
    denied_now: bool,
}

/// The machine had no more memory for a growth within the caps: this host's trouble, never the guest's to see.
#[derive(Debug, thiserror::Error)]
#[error("the host has no memory for the guest: {0}")]
pub(crate) struct HostOutOfMemory(String);

impl Growth {
    fn new(limits: &RunLimits) -> Self {
        let reservation = usize::try_from(crate::engine::MEMORY_RESERVATION).unwrap_or(usize::MAX);
        Self {
            memory_cap: usize::try_from(limits.memory_bytes).unwrap_or(usize::MAX).min(reservation),
            table_cap: limits.table_elements as usize,
            denied: None,
            denied_now: false,
        }
    }

    fn decide(&mut self, what: &str, desired: usize, cap: usize, maximum: Option<usize>) -> bool {
        let allowed = desired <= cap && maximum.is_none_or(|m| desired <= m);
        self.denied_now = !allowed;
        if !allowed {
            let limit = maximum.map_or(cap, |m| m.min(cap));
            self.denied = Some(format!("a {what} of {desired} was asked for, {limit} are allowed"));
        }
        allowed
    }
}

impl ResourceLimiter for Growth {
    fn memory_growing(&mut self, _: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        Ok(self.decide("memory in bytes", desired, self.memory_cap, maximum))
    }

    fn memory_grow_failed(&mut self, error: wasmtime::Error) -> wasmtime::Result<()> {
        // Should a denied growth be reported here too: that one the guest is to see as -1.
        if self.denied_now { Ok(()) } else { Err(wasmtime::Error::new(HostOutOfMemory(format!("{error:#}")))) }
    }

    fn table_growing(&mut self, _: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        Ok(self.decide("table in elements", desired, self.table_cap, maximum))
    }

    fn table_grow_failed(&mut self, error: wasmtime::Error) -> wasmtime::Result<()> {
        self.memory_grow_failed(error)
    }

    fn instances(&self) -> usize {
        MAX_STORE_INSTANCES
    }

    fn tables(&self) -> usize {
        MAX_STORE_ITEMS
    }

    fn memories(&self) -> usize {
        MAX_STORE_ITEMS
    }
}

/// A refusal goes to the guest as a value, a stop becomes a trap.
fn answer<T>(call: Call<T>) -> wasmtime::Result<Result<T, types::CallError>> {
    match call {
        Ok(Ok(value)) => Ok(Ok(value)),
        Ok(Err(error)) => Ok(Err(error.into())),
        Err(stop) => Err(wasmtime::Error::new(stop)),
    }
}

impl From<CallError> for types::CallError {
    fn from(error: CallError) -> Self {
        match error {
            CallError::InvalidJson(text) => Self::InvalidJson(text),
            CallError::InvalidArgument(text) => Self::InvalidArgument(text),
            CallError::LimitExceeded(text) => Self::LimitExceeded(text),
            CallError::UnknownPromise(promise) => Self::UnknownPromise(promise),
            CallError::SpentPromise(promise) => Self::SpentPromise(promise),
        }
    }
}

impl From<durable::ActivityOptions> for ActivityOptions {
    fn from(options: durable::ActivityOptions) -> Self {
        Self {
            task_queue: options.task_queue,
            retry: options.retry.map(Into::into),
            schedule_to_close: options.schedule_to_close,
            schedule_to_start: options.schedule_to_start,
            start_to_close: options.start_to_close,
            heartbeat_timeout: options.heartbeat_timeout,
            cancellation: match options.cancellation {
                durable::CancellationType::Try => CancellationType::Try,
                durable::CancellationType::Abandon => CancellationType::Abandon,
                durable::CancellationType::Wait => CancellationType::Wait,
            },
            summary: options.summary,
        }
    }
}

impl From<durable::RetryPolicy> for RetryPolicy {
    fn from(policy: durable::RetryPolicy) -> Self {
        Self {
            initial_interval: policy.initial_interval,
            backoff: policy.backoff,
            maximum_interval: policy.maximum_interval,
            maximum_attempts: policy.maximum_attempts,
            jitter: policy.jitter,
            non_retryable_codes: policy.non_retryable_codes,
        }
    }
}

/// Text in an activity's options.
fn text_bytes(options: &ActivityOptions) -> usize {
    let codes = options.retry.iter().flat_map(|policy| &policy.non_retryable_codes);
    let texts = options.task_queue.iter().chain(&options.summary).chain(codes);
    texts.map(|text| text.len() + ELEMENT_BYTES).sum()
}

impl types::Host for HostState {}

impl durable::Host for HostState {
    fn info(&mut self) -> wasmtime::Result<durable::ExecutionInfo> {
        if !self.started {
            return Err(wasmtime::Error::new(Stop::Dormant("info")));
        }
        let cursor = self.called(INFO_BYTES)?;
        let run = cursor.run();
        Ok(durable::ExecutionInfo {
            namespace: run.execution.namespace.to_string(),
            workflow_id: run.execution.workflow_id.to_string(),
            run_id: run.execution.run_id.to_string(),
            workflow: run.workflow.to_string(),
            digest: run.digest.to_string(),
            started_at: run.started_at.0,
            continued_from: run.continued_from.map(|run_id| run_id.to_string()),
            correlation_id: run.correlation_id.as_deref().map(str::to_owned),
            history_length: cursor.history_length(),
            continue_as_new_advised: cursor.continue_as_new_advised(),
        })
    }

    fn now(&mut self) -> wasmtime::Result<u64> {
        Ok(self.called(0)?.now().0)
    }

    fn random_u64(&mut self) -> wasmtime::Result<u64> {
        Ok(self.called(0)?.random_u64())
    }

    fn random_bytes(&mut self, length: u32) -> wasmtime::Result<Vec<u8>> {
        self.called(length.min(MAX_RANDOM_BYTES) as usize)?.random_bytes(length).map_err(wasmtime::Error::new)
    }

    fn uuid(&mut self) -> wasmtime::Result<String> {
        Ok(self.called(UUID_BYTES)?.uuid())
    }

    fn start_activity(
        &mut self,
        name: String,
        input: String,
        options: durable::ActivityOptions,
    ) -> wasmtime::Result<Result<u64, types::CallError>> {
        let options = ActivityOptions::from(options);
        let bytes = name.len() + input.len() + text_bytes(&options);
        answer(self.called(bytes)?.start_activity(&name, &input, options))
    }

    fn start_timer(&mut self, duration: u64) -> wasmtime::Result<Result<u64, types::CallError>> {
        answer(self.called(0)?.start_timer(duration))
    }

    fn next_message(&mut self, channel: String) -> wasmtime::Result<Result<u64, types::CallError>> {
        answer(self.called(channel.len())?.next_message(&channel))
    }

    fn cancel_promise(&mut self, promise: u64) -> wasmtime::Result<Result<(), types::CallError>> {
        answer(self.called(0)?.cancel_promise(promise))
    }

    fn publish(&mut self, key: String, value: String) -> wasmtime::Result<Result<(), types::CallError>> {
        answer(self.called(key.len() + value.len())?.publish(&key, &value))
    }

    fn version(&mut self, change_id: String, min: u32, max: u32) -> wasmtime::Result<u32> {
        self.called(change_id.len())?.version(&change_id, min, max).map_err(wasmtime::Error::new)
    }

    fn log(
        &mut self,
        level: durable::LogLevel,
        message: String,
        fields: Vec<durable::LogField>,
    ) -> wasmtime::Result<Result<(), types::CallError>> {
        let level = match level {
            durable::LogLevel::Trace => LogLevel::Trace,
            durable::LogLevel::Debug => LogLevel::Debug,
            durable::LogLevel::Info => LogLevel::Info,
            durable::LogLevel::Warn => LogLevel::Warn,
            durable::LogLevel::Error => LogLevel::Error,
        };
        let bytes = fields.iter().map(|field| field.name.len() + field.value.len() + ELEMENT_BYTES).sum::<usize>();
        let fields = fields.into_iter().map(|field| (field.name, field.value)).collect();
        answer(self.called(message.len() + bytes)?.log(level, &message, fields))
    }
}
