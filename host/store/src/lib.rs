//! relive-store
