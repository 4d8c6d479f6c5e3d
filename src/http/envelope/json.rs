//! Reading the top level of a JSON object in place: which members it has, and their values as they stand.
//!
//! Nothing below the top level is parsed into memory, and nesting is bounded before anything else looks at it.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::error::{Error, Reason, Result};

/// Deepest nesting of arrays and objects that is taken.
pub(in crate::http) const JSON_DEPTH_MAX: usize = 128;

/// Refuses text that nests deeper than [`JSON_DEPTH_MAX`], or has a string that is no text; says nothing else of whether
/// it is JSON.
pub(in crate::http) fn check_text(text: &str) -> Result<()> {
    check_depth(text)?;
    check_surrogates(text)
}

fn check_depth(text: &str) -> Result<()> {
    let (mut depth, mut in_string, mut escaped) = (0usize, false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => depth += 1,
            b'}' | b']' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > JSON_DEPTH_MAX {
            return Err(Error::new(Reason::InvalidEvent, format!("JSON nests deeper than {JSON_DEPTH_MAX} levels"))
                .with("max", JSON_DEPTH_MAX));
        }
    }
    Ok(())
}

/// Refuses escapes of one half of a character: what is kept as it stands must be text to whoever reads it.
fn check_surrogates(text: &str) -> Result<()> {
    let unit = |escape: &str| escape.strip_prefix("\\u")?.get(..4).and_then(|hex| u16::from_str_radix(hex, 16).ok());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        let escape = &rest[at..];
        let length = match unit(escape) {
            Some(0xd800..0xdc00) if unit(&escape[6..]).is_some_and(|low| (0xdc00..0xe000).contains(&low)) => 12,
            Some(half @ 0xd800..0xe000) => {
                return Err(Error::new(Reason::InvalidEvent, format!("\\u{half:04x} is half of a character")));
            }
            Some(_) => 6,
            None => 1 + escape[1..].chars().next().map_or(0, char::len_utf8),
        };
        rest = &escape[length..];
    }
    Ok(())
}

/// Hands every top-level member of the object in `text` to `visit`: its name, and its value as it stands.
pub(super) fn members<'a>(text: &'a str, visit: impl FnMut(Cow<'_, str>, &'a RawValue)) -> serde_json::Result<()> {
    let mut json = serde_json::Deserializer::from_str(text);
    json.deserialize_map(Members(visit))?;
    json.end()
}

struct Members<F>(F);

impl<'de, F: FnMut(Cow<'_, str>, &'de RawValue)> Visitor<'de> for Members<F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> std::result::Result<(), A::Error> {
        while let Some(name) = map.next_key_seed(Name)? {
            let value = map.next_value::<&'de RawValue>()?;
            (self.0)(name, value);
        }
        Ok(())
    }
}

/// A member's name, borrowed where it has no escapes.
struct Name;

impl<'de> DeserializeSeed<'de> for Name {
    type Value = Cow<'de, str>;
    fn deserialize<D: Deserializer<'de>>(self, d: D) -> std::result::Result<Self::Value, D::Error> {
        d.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Name {
    type Value = Cow<'de, str>;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }
    fn visit_borrowed_str<E>(self, name: &'de str) -> std::result::Result<Self::Value, E> {
        Ok(Cow::Borrowed(name))
    }
    fn visit_str<E>(self, name: &str) -> std::result::Result<Self::Value, E> {
        Ok(Cow::Owned(name.to_owned()))
    }
}

/// Whether the text is one JSON value, whichever.
pub(super) fn is_json(text: &str) -> bool {
    serde_json::from_str::<IgnoredAny>(text).is_ok()
}

/// What a member's value says as text: a string's content, or a number as it is written. Others say nothing.
pub(super) fn scalar<'a>(value: &'a RawValue) -> Option<Cow<'a, str>> {
    let text = value.get();
    match text.as_bytes().first()? {
        b'"' => {
            let mut json = serde_json::Deserializer::from_str(text);
            Name.deserialize(&mut json).ok()
        }
        b'-' | b'0'..=b'9' => Some(Cow::Borrowed(text)),
        _ => None,
    }
}

/// Appends text as a JSON string.
pub(super) fn push_string(out: &mut String, text: &str) {
    // Text without anything to escape, which most is, is copied at once.
    if text.bytes().all(|b| b >= 0x20 && b != b'"' && b != b'\\') {
        out.push('"');
        out.push_str(text);
        out.push('"');
    } else {
        out.push_str(&serde_json::to_string(text).expect("text is JSON"));
    }
}

/// Appends a member to an object under construction that ends in `{` or in another member.
pub(super) fn push_member(out: &mut String, name: &str, value: &str) {
    push_name(out, name);
    push_string(out, value);
}

/// Appends a member's name and colon, with a comma before it where one is needed.
pub(super) fn push_name(out: &mut String, name: &str) {
    if !out.ends_with('{') {
        out.push(',');
    }
    push_string(out, name);
    out.push(':');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_is_bounded_and_strings_do_not_count() {
        let nested = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
        check_text(&nested(JSON_DEPTH_MAX)).expect("at the limit");
        assert_eq!(check_text(&nested(JSON_DEPTH_MAX + 1)).expect_err("beyond").reason(), Reason::InvalidEvent);
        check_text(&format!("\"{}\\\"{}\"", "[".repeat(500), "{".repeat(500))).expect("only text");
    }

    #[test]
    fn a_string_is_text_to_whoever_reads_it() {
        for text in [r#""\ud83d\ude00 \u00e9 \\udbde \n""#, "{}", "\\", r#""é\u""#] {
            check_text(text).expect(text);
        }
        for text in [r#"{"a":"\udbde"}"#, r#""\ude00\ud83d""#, r#""\ud83d\u0041""#, r#""\\\ud83dx""#] {
            assert_eq!(check_text(text).expect_err(text).reason(), Reason::InvalidEvent);
        }
    }

    #[test]
    fn members_are_seen_as_they_stand() {
        let mut seen = Vec::new();
        members(r#" { "a" : 1.50, "b\u0063":{"x" : [ ]},"a":null } "#, |name, value| {
            seen.push((name.into_owned(), value.get().to_owned()));
        })
        .expect("an object");
        let want = [("a", "1.50"), ("bc", r#"{"x" : [ ]}"#), ("a", "null")];
        assert_eq!(seen, want.map(|(n, v)| (n.to_owned(), v.to_owned())));
        for bad in ["[]", "1", "{} x", "{\"a\":}", "{\"a\":\"\u{1}\"}", "", "{\"a\":1,}"] {
            members(bad, |_, _| {}).expect_err(bad);
        }
    }
}
