//! The log on disk: files, segments, frames; the simulated disk for tests.
