//! Control records: what is read is written back byte for byte.
#![no_main]

use libfuzzer_sys::fuzz_target;
use synapse::format::record::Effect;

fuzz_target!(|data: &[u8]| {
    let [kind, version, content @ ..] = data else { return };
    if let Ok(effect) = Effect::decode(*kind, *version, content) {
        assert_eq!(effect.kind(), *kind);
        assert_eq!(effect.encode(), content);
    }
});
