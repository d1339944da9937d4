//! The hostile corpus: uploads that mean harm, copies of honest ones with bits flipped, hand-written guests, and what
//! a process holds, so that tests can say that nothing of it stayed behind.

pub mod mutate;
pub mod reactor;
pub mod uploads;
pub mod usage;
