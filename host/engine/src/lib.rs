//! relive-engine
