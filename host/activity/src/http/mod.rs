//! Http activities: the host POSTs the task to a URL, signed; the answer is the result.
//!
//! `config` is what a deployment says; `call` is one attempt; `answer` says what a response means; `signature` and `key`
//! sign (RFC 9421, Ed25519); `client` and `connect` send, over pooled connections to addresses that `address` allows.

mod address;
mod answer;
mod call;
mod client;
mod config;
mod connect;
#[cfg(test)]
mod connect_tests;
mod key;
mod signature;

pub(crate) use call::attempt;
pub use client::{HttpHost, HttpHostError};
pub use config::{HttpConfig, HttpConfigError};
pub use key::{KeyError, SigningKey};
