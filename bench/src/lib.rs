//! relive-bench
