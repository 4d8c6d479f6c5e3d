//! Rules of the code base that no compiler holds: layers, headers, lengths, banned words, documents that tell the truth.

#[path = "tidy/documents.rs"]
mod documents;
#[path = "tidy/layers.rs"]
mod layers;
#[path = "tidy/sources.rs"]
mod sources;
