//! How hosts tell each other of tasks: in memory, and over NATS. Hints only; the store is the truth.
