//! Checksums of everything on disk: CRC-32C, plain for contents that may move between files, salted for what may not.
//!
//! A salted checksum starts with the file's salt and the place of the bytes, so bytes that are old, moved, or made to
//! look like ours do not verify.

use crc32c::crc32c_append;

/// Checksum of a record's content; the same wherever the content lies.
pub fn content(bytes: &[u8]) -> u32 {
    crc32c_append(0, bytes)
}

/// [`content`] of bytes that go on with these, going by the checksum of those before.
pub fn content_continued(sum: u32, bytes: &[u8]) -> u32 {
    crc32c_append(sum, bytes)
}

/// Checksum of `parts`, one after the other, bound to a file by its salt and to a place in it.
pub fn salted(salt: u64, place: u64, parts: &[&[u8]]) -> u32 {
    let seed = crc32c_append(crc32c_append(0, &salt.to_le_bytes()), &place.to_le_bytes());
    parts.iter().fold(seed, |crc, part| crc32c_append(crc, part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn salt_and_place_matter() {
        assert_eq!(content(b"123456789"), 0xe306_9283, "the check value of CRC-32C");
        assert_eq!(content_continued(content(b"1234"), b"56789"), content(b"123456789"));
        let sum = salted(1, 2, &[b"ab", b"c"]);
        assert_eq!(sum, salted(1, 2, &[b"abc"]));
        assert_ne!(sum, salted(2, 2, &[b"abc"]));
        assert_ne!(sum, salted(1, 3, &[b"abc"]));
    }
}
