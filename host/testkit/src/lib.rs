//! What tests are made with: a scripted guest, a test clock, stores that fail on purpose, control over host processes
//! and over servers of a test's own, receivers of http activities, and guests that mean harm.
//!
//! Knows the engine and everything below it. Nothing of the product knows the testkit.

pub mod clock;
pub mod embedded;
pub mod faulty;
pub mod guests;
pub mod hostile;
pub mod model;
pub mod process;
pub mod proxy;
pub mod receiver;
pub mod servers;
