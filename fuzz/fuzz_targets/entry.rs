//! What entries carry: events in their wire form and lists of fields. What is accepted means the same when its parts
//! are put together again, and is left as it is where nothing is taken out of it.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use synapse::format::event::{self, Event, EventView};
use synapse::format::fields;

fuzz_target!(|data: &[u8]| {
    if let Ok(view) = EventView::parse(data) {
        assert_eq!(event::retain_attributes(data, |_| true).expect("parsed before"), data);
        let bare = event::retain_attributes(data, |_| false).expect("parsed before");
        assert_eq!(EventView::parse(&bare).expect("a part of an event is one").attributes().count(), 0);
        let again = parts(&view).encode();
        let reread = EventView::parse(&again).expect("our own encoding");
        assert_eq!(parts(&reread), parts(&view));
        let accepted = event::check(Bytes::copy_from_slice(data));
        assert_eq!(accepted.is_ok(), !view.has_deliver_at && parts(&view).into_entry().is_ok());
        if let Ok(entry) = accepted {
            assert_eq!(entry.bytes, data, "stored as it came");
        }
    }
    let pairs: Vec<(&[u8], &[u8])> = fields::pairs(data).collect();
    if let Ok(entry) = fields::encode(pairs.iter().copied()) {
        assert!(data.starts_with(&entry.bytes));
        assert!(fields::pairs(&entry.bytes).eq(pairs.iter().copied()));
    }
});

/// The parts of an event; absent and empty text are the same.
fn parts(view: &EventView<'_>) -> Event {
    let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    Event {
        id: text(view.id),
        source: text(view.source),
        r#type: text(view.r#type),
        time: view.time,
        subject: text(view.subject),
        data_content_type: text(view.data_content_type),
        data_schema: text(view.data_schema),
        data: Bytes::copy_from_slice(view.data),
        attributes: view.attributes().map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
        key: text(view.key),
    }
}
