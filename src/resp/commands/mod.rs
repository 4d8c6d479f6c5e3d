//! The commands, by what they are about.

mod add;
mod client;
mod command;
mod config;
mod expire;
mod groups;
pub(super) mod help;
mod info;
mod keys;
mod once;
mod pending;
mod read;
mod read_group;
mod release;
mod remove;
mod scripts;
mod server;
mod set_id;

pub(super) use add::{Add, added};
pub(super) use expire::Unit;
