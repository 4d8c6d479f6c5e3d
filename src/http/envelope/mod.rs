//! The envelope: how JSON becomes events, and how stored entries become JSON again.
//!
//! A publisher's bytes are stored as they came; attributes are copies taken out of them. `docs/HTTP.md` has the rules
//! for readers of the outside, the golden files under `tests/golden/http` pin them. Pure: nothing here does I/O.

mod cloud_events;
mod json;
mod native;
mod show;
mod show_cloud;
mod table;
mod time;

pub(super) use cloud_events::{batch as cloud_event_batch, binary as cloud_event_binary, structured as cloud_event};
pub(super) use json::check_text;
pub(super) use native::{lines, objects, single};
pub(super) use show::{SOURCE_DEFAULT, write_native};
pub(super) use show_cloud::write_cloud_event;
pub(super) use time::{parse_rfc3339, write_ms};

#[cfg(test)]
mod golden;
