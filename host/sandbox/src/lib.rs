//! relive-sandbox
