//! relive-activity
