//! The engine: one log, one core thread that decides, one log thread that makes it durable, readers beside them.
//!
//! [`Engine`] is the handle that front ends and library users hold. It is cheap to clone. A request goes from the
//! handle (`publish`, `streams`, `groups`, `delivery`, which prepare what needs stored bytes) as a `command` to the
//! `core`, which applies it and fills a `commit`; `log_step` writes that, shows it to readers (`view`) and answers.

mod api;
mod backup;
mod cache;
mod catalogue;
mod command;
mod commit;
mod core;
mod dead_letter;
mod dead_letters;
mod deep;
mod delivery;
mod gather;
mod groups;
mod handle;
mod keeper;
mod log_step;
mod options;
mod parts;
mod pool;
mod publish;
mod reader;
mod reclaim;
mod recovery;
mod reply;
mod retention;
mod sealed;
mod shared;
mod start;
#[cfg(any(test, feature = "testing"))]
pub mod stepped;
mod streams;
mod tail;
mod threads;
mod ticket;
mod transaction;
mod upkeep;
mod view;

pub use crate::storage::{BackupFile, BackupPlan};
pub use crate::stream::{NodeLimits, OnceInfo, OnceSettings};
pub use api::*;
pub use backup::BackupSource;
pub use deep::{DeepReport, verify_deep};
pub use delivery::{Session, SessionEnd};
pub use gather::{EachPublished, Gathered, Plain, Submitted};
pub use handle::Engine;
pub use options::EngineOptions;
pub use parts::Replay;
pub use tail::Tail;
pub use transaction::TransactionRoom;
pub use upkeep::{Rebuilt, rebuild, reclaim as reclaim_directory};
