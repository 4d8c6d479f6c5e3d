//! The metrics that the server exposes.
