//! Names, ids, lengths of time and moments as text: what is accepted is written back as text that reads the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use synapse::format::block::FileId;
use synapse::format::event;
use synapse::http::testing;
use synapse::types::{ConsumerName, EntryId, GroupName, ProducerId, StreamName};

fuzz_target!(|text: &str| {
    if let Ok(id) = EntryId::parse(text) {
        assert_eq!(id.to_string().parse::<EntryId>().expect("own text"), id);
        assert_eq!(EntryId::parse_with_default(text, id.seq).expect("with or without a default"), id);
    }
    if let Some(file) = FileId::parse(text) {
        assert_eq!(file.name(), text);
    }
    names(text);
    if let Ok((length, written)) = testing::duration(text) {
        assert_eq!(testing::duration(&written).expect("own text"), (length, written));
    }
    if let Ok((moment, written)) = testing::time(text) {
        assert_eq!(testing::time(&written).expect("own text"), (moment, written));
    }
    if event::check_attribute_name(text).is_ok() {
        assert!(!text.starts_with(event::RESERVED_PREFIX) && text.is_ascii());
    }
});

/// A name is a name everywhere or nowhere, and stays as it is.
fn names(text: &str) {
    let stream = StreamName::parse(text);
    assert_eq!(stream.is_ok(), !text.is_empty() && text.len() <= 255 && !text.chars().any(char::is_control));
    if let Ok(name) = &stream {
        assert_eq!((name.as_str(), name.to_string().as_str()), (text, text));
    }
    assert_eq!(GroupName::parse(text).is_ok(), stream.is_ok());
    assert_eq!(ConsumerName::parse(text).is_ok(), stream.is_ok());
    assert_eq!(ProducerId::parse(text).is_ok(), stream.is_ok());
    if let Ok(name) = GroupName::from_bytes(text.as_bytes()) {
        assert_eq!(name.as_bytes(), text.as_bytes());
    }
}
