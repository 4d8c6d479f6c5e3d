//! Every hard limit of the engine in one place.
//!
//! A limit here is a promise about memory, files or message sizes. Settings may lower some of them
//! (see `docs/CONFIG.md`); nothing may raise them. Units last in the name; sizes are in bytes.

use std::time::Duration;

/// Longest name of a stream, a group or a consumer.
pub const NAME_BYTES_MAX: usize = 255;
/// Largest single event or field entry in its stored form, by default.
pub const EVENT_BYTES_DEFAULT: usize = 1 << 20;
/// Largest single event that a setting may allow. A frame must hold it with room to spare.
pub const EVENT_BYTES_MAX: usize = 4 << 20;
/// Largest atomic publish request (sum of its entries), by default. Below gRPC's 4 MiB default message.
pub const PUBLISH_BYTES_DEFAULT: usize = 3_670_016;
/// Largest atomic publish request that a setting may allow: it must fit one frame.
pub const PUBLISH_BYTES_MAX: usize = 7 << 20;
/// Most events of one atomic publish request.
pub const PUBLISH_EVENTS_MAX: usize = 1000;
/// Most attributes of one event.
pub const ATTRIBUTES_MAX: usize = 64;
/// Longest name of an attribute.
pub const ATTRIBUTE_NAME_BYTES_MAX: usize = 64;
/// Longest key, type, source, subject, content type or schema reference of an event.
pub const EVENT_TEXT_BYTES_MAX: usize = 1024;

/// Largest frame on disk, header and table included.
pub const FRAME_BYTES_MAX: usize = 8 << 20;
/// A block of entries is closed once it holds this much, so that reading one entry verifies little.
pub const BLOCK_BYTES_TARGET: usize = 64 << 10;
/// Most entries of one block.
pub const BLOCK_ENTRIES_MAX: usize = 4096;
/// Size of a live segment file, by default.
pub const SEGMENT_BYTES_DEFAULT: u64 = 64 << 20;
/// Smallest segment that a setting may ask for: one frame, its index and the file header must fit.
pub const SEGMENT_BYTES_MIN: u64 = 64 << 10;
/// Largest segment that a setting may ask for: offsets in a segment are 32 bits wide.
pub const SEGMENT_BYTES_MAX: u64 = 1 << 30;
/// Allocated room that only acknowledgements, trims, deletes and other shrinking commands may use.
pub const RESERVE_BYTES: u64 = 2 << 20;

/// Log files that readers keep open at most.
pub const LOG_FILES_OPEN_MAX: usize = 256;
/// Files of cut tails that are kept; the oldest are removed.
pub const CUT_FILES_MAX: usize = 16;
/// Damaged blocks that a recovery lists; all are counted.
pub const DAMAGED_LISTED_MAX: usize = 1000;

/// Backups that are being taken at a time at most: each keeps files from being removed.
pub const BACKUPS_MAX: usize = 2;
/// Bytes of one piece of a file on its way into a backup.
pub const BACKUP_PIECE_BYTES: usize = 256 << 10;

/// Commands waiting for the core at most; one more is refused with `OVERLOADED`.
pub const QUEUE_COMMANDS_MAX: usize = 16_384;
/// Bytes of commands waiting for the core at most; more is refused with `OVERLOADED`.
pub const QUEUE_BYTES_MAX: usize = 128 << 20;
/// Commits handed to the log thread and not yet durable, at most; two of them are large.
pub const COMMITS_IN_FLIGHT_MAX: usize = 8;
/// Blocks kept in memory for readers, by default.
pub const CACHE_BYTES_DEFAULT: usize = 64 << 20;
/// Log written between two checkpoints of the index, by default.
pub const CHECKPOINT_BYTES_DEFAULT: u64 = 256 << 20;
/// Least log between two checkpoints that a setting may ask for: each takes the whole state.
pub const CHECKPOINT_BYTES_MIN: u64 = 1 << 20;
/// Most log between two checkpoints that a setting may ask for: so much is replayed at a start.
pub const CHECKPOINT_BYTES_MAX: u64 = 1 << 40;
/// An `os` event is synced at the latest after this long.
pub const OS_SYNC_DELAY_MAX: Duration = Duration::from_millis(100);

/// Streams that one engine holds at most.
pub const STREAMS_MAX: usize = 1_000_000;
/// Groups that one stream holds at most, by default.
pub const GROUPS_PER_STREAM_DEFAULT: usize = 1_000_000;
/// Consumers that one group remembers at most, by default.
pub const CONSUMERS_PER_GROUP_DEFAULT: usize = 1_000_000;
/// Groups of a stream, or consumers of a group, that settings may allow.
pub const MEMBERS_MAX: usize = 100_000_000;
/// A group forgets consumers by itself only where it remembers more than so many.
pub const CONSUMERS_KEPT: usize = 1_000;
/// A consumer that was not heard of for so long may be forgotten, by default.
pub const CONSUMER_IDLE_DEFAULT: Duration = Duration::from_secs(7 * 24 * 3600);
/// Pending entries of a group, by default; what would go beyond is not delivered, and whoever asks is told.
pub const PENDING_DEFAULT: u32 = 100_000;
/// Pending entries that a group's settings may allow.
pub const PENDING_MAX: u32 = 10_000_000;
/// Pieces of a stream's head that the core keeps for its trims, about; each takes 56 bytes.
pub const HEAD_PIECES_MAX: usize = 16_384;
/// Such pieces of all streams, about.
pub const HEAD_PIECES_ALL_MAX: usize = 524_288;
/// Candidates for delivery that a group keeps prepared.
pub const CANDIDATES_MAX: usize = 8_192;
/// Pulls and sessions that wait for entries of one group at most.
pub const WAITERS_PER_GROUP_MAX: usize = 10_000;
/// Longest wait of one pull.
pub const PULL_WAIT_MAX: Duration = Duration::from_secs(300);
/// Entries of one delivery, page or list at most.
pub const PAGE_ENTRIES_MAX: usize = 10_000;
/// Bytes after which a delivery or page stops growing (it always holds at least one entry).
pub const PAGE_BYTES_DEFAULT: usize = 1 << 20;
/// Ids or id ranges that one acknowledgement, delete or claim may carry.
pub const IDS_PER_REQUEST_MAX: usize = 100_000;

/// Lease of a group that does not set its own.
pub const ACK_WAIT_DEFAULT: Duration = Duration::from_secs(30);
/// Longest lease and longest retry delay.
pub const ACK_WAIT_MAX: Duration = Duration::from_secs(7 * 24 * 3600);
/// Most steps of a group's back-off list.
pub const BACKOFF_STEPS_MAX: usize = 32;

/// Remembered requests of one producer.
pub const DEDUP_REQUESTS_PER_PRODUCER: usize = 5;
/// Remembered producers of one stream at most.
pub const DEDUP_PRODUCERS_MAX: usize = 10_000;
/// Requests of one stream that are remembered by a name alone at most.
pub const DEDUP_NAMES_MAX: usize = 200_000;
/// Remembered event ids of one stream at most.
pub const DEDUP_EVENT_IDS_MAX: usize = 100_000;
/// Remembered requests of one stream that are to be appended once, of all producers, at most.
pub const ONCE_NAMES_MAX: usize = 200_000;
/// How long a stream remembers, unless its settings say otherwise.
pub const DEDUP_WINDOW_DEFAULT: Duration = Duration::from_secs(120);
