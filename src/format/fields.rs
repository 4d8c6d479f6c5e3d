//! Field entries: an ordered list of name and value pairs of any bytes, as `XADD` takes them.
//!
//! Stored as, for each pair, a `u32` length of the name, the name, a `u32` length of the value, the value;
//! little-endian. Order and duplicates are kept.

use bytes::Bytes;

use crate::error::{Error, Reason, Result};
use crate::types::{EntryKind, NewEntry};

/// The entry of these pairs; at least one pair is needed.
pub fn encode<'a>(pairs: impl IntoIterator<Item = (&'a [u8], &'a [u8])>) -> Result<NewEntry> {
    let mut out = Vec::new();
    for (name, value) in pairs {
        for part in [name, value] {
            let length = u32::try_from(part.len())
                .map_err(|_| Error::new(Reason::EventTooLarge, "a field is larger than 4 GiB"))?;
            out.extend_from_slice(&length.to_le_bytes());
            out.extend_from_slice(part);
        }
    }
    if out.is_empty() {
        return Err(Error::new(Reason::InvalidEvent, "an entry needs at least one field"));
    }
    Ok(NewEntry { kind: EntryKind::Fields, bytes: Bytes::from(out), type_hash: None })
}

/// The pairs of a stored entry, in order; stops at bytes that are not in the stored form.
pub fn pairs(bytes: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let mut rest = bytes;
    std::iter::from_fn(move || Some((take(&mut rest)?, take(&mut rest)?)))
}

/// Appends a pair to a stored entry.
pub fn put_pair(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    for part in [name, value] {
        out.extend_from_slice(&(part.len() as u32).to_le_bytes());
        out.extend_from_slice(part);
    }
}

fn take<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, after) = rest.split_first_chunk::<4>()?;
    let (part, after) = after.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    *rest = after;
    Some(part)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn pairs_round_trip(list: Vec<(Vec<u8>, Vec<u8>)>) {
            prop_assume!(!list.is_empty());
            let entry = encode(list.iter().map(|(n, v)| (&n[..], &v[..]))).expect("valid");
            let back: Vec<_> = pairs(&entry.bytes).map(|(n, v)| (n.to_vec(), v.to_vec())).collect();
            prop_assert_eq!(back, list);
        }

        #[test]
        fn any_bytes_are_safe(bytes: Vec<u8>) {
            let _ = pairs(&bytes).count();
        }
    }
}
