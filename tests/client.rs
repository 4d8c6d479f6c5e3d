//! The Rust client against a real server process: one binary, a module a topic.

#[path = "client/calls.rs"]
mod calls;
#[path = "client/consumer.rs"]
mod consumer;
#[path = "client/errors.rs"]
mod errors;
#[path = "client/publisher.rs"]
mod publisher;
#[path = "client/restarts.rs"]
mod restarts;
#[path = "process/server.rs"]
mod server;
