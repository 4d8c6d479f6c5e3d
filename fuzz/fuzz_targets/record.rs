//! Control records: what is read, of any version, is written back so that it is read as the same; byte for byte where the
//! record has the version that is written, and no settings, which may be listed in any order.
#![no_main]

use libfuzzer_sys::fuzz_target;
use synapse::format::record::Effect;

fuzz_target!(|data: &[u8]| {
    let [kind, version, content @ ..] = data else { return };
    if let Ok(effect) = Effect::decode(*kind, *version, content) {
        assert_eq!(effect.kind(), *kind);
        let again = effect.encode();
        let lists_settings = matches!(
            effect,
            Effect::StreamCreated(_) | Effect::StreamUpdated(_) | Effect::GroupCreated(_) | Effect::GroupUpdated(_)
        );
        assert!(lists_settings || effect.version() != *version || *again == *content);
        assert_eq!(Effect::decode(*kind, effect.version(), &again).ok(), Some(effect));
    }
});
