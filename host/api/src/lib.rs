//! relive-api
