//! Who may do what: API keys and the permissions they grant. Pure; every front end asks the same [`Keyring`].
//!
//! A key is stored as its SHA-256 only. An engine without keys lets everyone do everything (it then serves
//! loopback only, unless told otherwise).

use std::collections::HashMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::{Error, Reason, Result};

/// What a caller may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Permission {
    /// Publish events.
    Publish,
    /// Use groups: pull, acknowledge, claim.
    Consume,
    /// Read streams and what is known of them.
    Read,
    /// Everything else: create, change, delete, trim, seek, redrive.
    Admin,
}

/// Permissions over the streams that a pattern names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grant {
    /// Stream name pattern: `*` stands for any run of characters.
    pub streams: String,
    /// What is allowed there.
    pub permissions: Vec<Permission>,
}

/// One API key as settings name it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApiKey {
    /// Name of the key's holder, shown in logs and as the default source of events.
    pub name: String,
    /// SHA-256 of the key, as 64 hexadecimal digits.
    pub sha256: String,
    /// What it may do.
    pub grants: Vec<Grant>,
}

/// Who a request comes from.
#[derive(Clone, Debug)]
pub struct Caller(Option<Arc<ApiKey>>);

impl Caller {
    /// A caller that may do everything: in-process use, and servers without keys.
    pub const ANYONE: Self = Self(None);

    /// The name of its key.
    pub fn name(&self) -> Option<&str> {
        self.0.as_deref().map(|k| k.name.as_str())
    }

    /// Fails with `PERMISSION_DENIED` unless the caller may do that on that stream.
    pub fn may(&self, permission: Permission, stream: &str) -> Result<()> {
        if self.allows(permission, stream) {
            return Ok(());
        }
        Err(Error::new(
            Reason::PermissionDenied,
            format!("the key may not {} on {stream}", permission_name(permission)),
        )
        .with("permission", permission_name(permission))
        .with("stream", stream))
    }

    /// Whether the caller may do that on that stream; for lists, which show only what may be seen.
    pub fn allows(&self, permission: Permission, stream: &str) -> bool {
        self.0.as_ref().is_none_or(|key| {
            key.grants.iter().any(|g| g.permissions.contains(&permission) && glob_matches(&g.streams, stream))
        })
    }
}

fn permission_name(permission: Permission) -> &'static str {
    match permission {
        Permission::Publish => "publish",
        Permission::Consume => "consume",
        Permission::Read => "read",
        Permission::Admin => "admin",
    }
}

/// The keys that a server knows.
#[derive(Clone, Debug, Default)]
pub struct Keyring(Arc<HashMap<[u8; 32], Arc<ApiKey>>>);

impl Keyring {
    /// Takes the keys; refuses digests that are not 64 hexadecimal digits, and two keys of one digest or name.
    pub fn new(keys: Vec<ApiKey>) -> Result<Self> {
        let mut known = HashMap::new();
        let mut names = std::collections::HashSet::new();
        for key in keys {
            let field = format!("api_keys[{:?}].sha256", key.name);
            let digest =
                parse_hex(&key.sha256).ok_or_else(|| Error::invalid(field.clone(), "must be 64 hexadecimal digits"))?;
            if !names.insert(key.name.clone()) {
                return Err(Error::invalid("api_keys", format!("two keys are named {:?}", key.name)));
            }
            if known.insert(digest, Arc::new(key)).is_some() {
                return Err(Error::invalid(field, "another key has the same digest"));
            }
        }
        Ok(Self(Arc::new(known)))
    }

    /// Whether there are no keys, so that nobody is asked for one.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Who presents this key; `UNAUTHENTICATED` for none or a wrong one where keys are needed.
    pub fn authenticate(&self, presented: Option<&str>) -> Result<Caller> {
        if self.is_empty() {
            return Ok(Caller::ANYONE);
        }
        let Some(presented) = presented else {
            return Err(Error::new(Reason::Unauthenticated, "an API key is needed"));
        };
        // Looking up the digest, not the key, leaves nothing to learn from timing.
        let digest: [u8; 32] = Sha256::digest(presented.as_bytes()).into();
        match self.0.get(&digest) {
            Some(key) => Ok(Caller(Some(Arc::clone(key)))),
            None => Err(Error::new(Reason::Unauthenticated, "the API key is not known")),
        }
    }
}

fn parse_hex(text: &str) -> Option<[u8; 32]> {
    let mut out = [0u8; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (byte, pair) in out.iter_mut().zip(text.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(out)
}

/// Whether the text matches a pattern in which `*` stands for any run of characters. Linear but for backtracking
/// to the last star.
pub fn glob_matches(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        if pattern.get(p) == Some(&b'*') {
            star = Some((p, t));
            p += 1;
        } else if pattern.get(p) == Some(&text[t]) {
            p += 1;
            t += 1;
        } else if let Some((star_p, star_t)) = star {
            (p, t) = (star_p + 1, star_t + 1);
            star = Some((star_p, star_t + 1));
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|b| *b == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str, secret: &str, streams: &str, permissions: &[Permission]) -> ApiKey {
        let sha256 = Sha256::digest(secret.as_bytes()).iter().map(|b| format!("{b:02x}")).collect();
        ApiKey {
            name: name.into(),
            sha256,
            grants: vec![Grant { streams: streams.into(), permissions: permissions.into() }],
        }
    }

    #[test]
    fn keys_grant_what_they_say() {
        let ring = Keyring::new(vec![key("helox", "s3cret", "training-*", &[Permission::Publish])]).expect("valid");
        let caller = ring.authenticate(Some("s3cret")).expect("known");
        assert_eq!(caller.name(), Some("helox"));
        caller.may(Permission::Publish, "training-events").expect("granted");
        assert_eq!(
            caller.may(Permission::Read, "training-events").expect_err("not granted").reason(),
            Reason::PermissionDenied
        );
        assert_eq!(
            caller.may(Permission::Publish, "other").expect_err("not granted").reason(),
            Reason::PermissionDenied
        );
        assert_eq!(ring.authenticate(None).expect_err("no key").reason(), Reason::Unauthenticated);
        assert_eq!(ring.authenticate(Some("wrong")).expect_err("wrong key").reason(), Reason::Unauthenticated);
        Keyring::default()
            .authenticate(None)
            .expect("no keys, no questions")
            .may(Permission::Admin, "x")
            .expect("anyone");
    }

    #[test]
    fn bad_keyrings_are_refused() {
        let mut bad = key("a", "x", "*", &[]);
        bad.sha256.pop();
        Keyring::new(vec![bad]).expect_err("digest too short");
        Keyring::new(vec![key("a", "x", "*", &[]), key("b", "x", "*", &[])]).expect_err("same digest");
        Keyring::new(vec![key("a", "x", "*", &[]), key("a", "y", "*", &[])]).expect_err("same name");
    }

    #[test]
    fn globs() {
        for (pattern, text, want) in [
            ("*", "", true),
            ("a*c", "abc", true),
            ("a*c", "abd", false),
            ("*-events", "x-events", true),
            ("a", "ab", false),
            ("**", "x", true),
            ("a*b*c", "aXbYbZc", true),
        ] {
            assert_eq!(glob_matches(pattern, text), want, "{pattern} {text}");
        }
    }
}
