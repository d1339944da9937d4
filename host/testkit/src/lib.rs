//! relive-testkit
