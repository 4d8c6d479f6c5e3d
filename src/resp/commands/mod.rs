//! The commands, by what they are about.

mod add;
mod groups;
mod info;
mod keys;
mod pending;
mod read;
mod read_group;
mod server;

pub(super) use add::{Add, added};
