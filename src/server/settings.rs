//! What a server can be told: plain values with defaults, and the layers that they come from.
//!
//! Flags go over the environment, that over the TOML file, that over the defaults. Every setting has one name in all
//! of them (`data_dir`, `--data-dir`, `SYNAPSE_DATA_DIR`); keys of the file that are not settings are refused.
//! Settings are values, not components: nothing here opens, binds or starts anything.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use crate::access::{ApiKey, Keyring};
use crate::error::{Error, Reason, Result};
use crate::limits;
use crate::types::{Durability, StreamName};

/// How log lines are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One line of text an event.
    #[default]
    Text,
    /// One JSON object an event.
    Json,
}

/// One setting, as `docs/CONFIG.md` shows it.
#[derive(Clone, Copy, Debug)]
pub struct SettingDoc {
    /// Its key in the TOML file.
    pub name: &'static str,
    /// Its environment variable.
    pub env: &'static str,
    /// What it does.
    pub doc: &'static str,
}

impl SettingDoc {
    /// Its flag on the command line.
    pub fn flag(&self) -> String {
        format!("--{}", self.name.replace('_', "-"))
    }
}

macro_rules! settings {
    ($($(#[doc = $doc:literal])+ $(#[arg($($arg:tt)*)])? $name:ident / $env:literal: $type:ty = $default:expr;)*) => {
        /// Everything that a server can be told.
        #[derive(Clone, Debug)]
        pub struct Settings {
            $($(#[doc = $doc])+ pub $name: $type,)*
        }

        impl Default for Settings {
            fn default() -> Self {
                Self { $($name: $default,)* }
            }
        }

        /// One layer of settings: what the command line with the environment, or the file, says.
        #[derive(Clone, Debug, Default, Deserialize, clap::Args)]
        #[serde(deny_unknown_fields, default)]
        pub struct Layer {
            $($(#[doc = $doc])+ #[arg(long, env = $env, value_name = "VALUE" $(, $($arg)*)?)] pub $name: Option<$type>,)*
        }

        impl Layer {
            /// Puts what this layer says over the settings.
            pub fn apply(self, settings: &mut Settings) {
                $(if let Some(value) = self.$name {
                    settings.$name = value;
                })*
            }
        }

        /// Every setting, in the order of the documentation.
        pub const TABLE: &[SettingDoc] = &[
            $(SettingDoc { name: stringify!($name), env: $env, doc: concat!($($doc),+) },)*
        ];
    };
}

settings! {
    /// Directory that holds the engine's files; made where it is missing.
    data_dir / "SYNAPSE_DATA_DIR": PathBuf = PathBuf::from("./synapse-data");
    /// Address and port to serve on; port 0 picks a free one. Beyond loopback it needs `api_keys` or `insecure`.
    listen / "SYNAPSE_LISTEN": SocketAddr = SocketAddr::from(([127, 0, 0, 1], 8002));
    /// Address and port to serve the Redis protocol on; empty: not at all. Port 0 picks a free one.
    resp_listen / "SYNAPSE_RESP_LISTEN": OptionalAddress = OptionalAddress(None);
    /// Serve beyond loopback without API keys: whoever reaches the port may do everything.
    #[arg(num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    insecure / "SYNAPSE_INSECURE": bool = false;
    /// PEM file with the server's certificate chain; turns TLS on, together with `tls_key`.
    tls_cert / "SYNAPSE_TLS_CERT": OptionalPath = OptionalPath(None);
    /// PEM file with the private key of `tls_cert`.
    tls_key / "SYNAPSE_TLS_KEY": OptionalPath = OptionalPath(None);
    /// PEM file with the authorities of client certificates; where set, clients must present one.
    tls_client_ca / "SYNAPSE_TLS_CLIENT_CA": OptionalPath = OptionalPath(None);
    /// API keys: name, SHA-256 of the key, grants. A TOML array of tables; in the environment and as a flag a JSON array.
    #[arg(value_parser = ApiKeys::parse)]
    api_keys / "SYNAPSE_API_KEYS": ApiKeys = ApiKeys(Vec::new());
    /// Origins that browsers may call from besides the server's own, comma-separated; `*` allows every origin.
    #[arg(value_parser = Names::parse)]
    cors_origins / "SYNAPSE_CORS_ORIGINS": Names = Names(Vec::new());
    /// Streams that are made at start where they are missing, comma-separated.
    #[arg(value_parser = Names::parse)]
    streams / "SYNAPSE_STREAMS": Names = Names(PLATFORM_STREAMS.iter().map(|s| (*s).into()).collect());
    /// Whether a publish makes the stream that it names, unless the publisher says otherwise.
    #[arg(num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    auto_create_streams / "SYNAPSE_AUTO_CREATE_STREAMS": bool = true;
    /// When a publish is answered, unless stream or request say otherwise: `fsync` (on disk) or `os` (written).
    #[arg(value_parser = parse_durability)]
    durability / "SYNAPSE_DURABILITY": Durability = Durability::Fsync;
    /// Size of a live log file, in bytes.
    segment_bytes / "SYNAPSE_SEGMENT_BYTES": u64 = limits::SEGMENT_BYTES_DEFAULT;
    /// Log between two checkpoints of the index, in bytes; a start after a crash replays about so much.
    checkpoint_bytes / "SYNAPSE_CHECKPOINT_BYTES": u64 = limits::CHECKPOINT_BYTES_DEFAULT;
    /// Memory for blocks that readers share, in bytes.
    cache_bytes / "SYNAPSE_CACHE_BYTES": usize = limits::CACHE_BYTES_DEFAULT;
    /// Largest single event, in bytes.
    event_bytes_max / "SYNAPSE_EVENT_BYTES_MAX": usize = limits::EVENT_BYTES_DEFAULT;
    /// Largest atomic publish request, in bytes.
    publish_bytes_max / "SYNAPSE_PUBLISH_BYTES_MAX": usize = limits::PUBLISH_BYTES_DEFAULT;
    /// Groups that one stream holds at most.
    groups_per_stream_max / "SYNAPSE_GROUPS_PER_STREAM_MAX": usize = limits::GROUPS_PER_STREAM_DEFAULT;
    /// Consumers that one group remembers at most.
    consumers_per_group_max / "SYNAPSE_CONSUMERS_PER_GROUP_MAX": usize = limits::CONSUMERS_PER_GROUP_DEFAULT;
    /// Where a group remembers more than a thousand consumers, those that hold nothing and were not heard of for so many seconds are forgotten; 0: never.
    consumer_idle_max_s / "SYNAPSE_CONSUMER_IDLE_MAX_S": u64 = limits::CONSUMER_IDLE_DEFAULT.as_secs();
    /// Connections at most; one more is closed at once.
    connections_max / "SYNAPSE_CONNECTIONS_MAX": usize = 10_000;
    /// Requests that one HTTP/2 connection may have open.
    http2_streams_max / "SYNAPSE_HTTP2_STREAMS_MAX": u32 = 1_024;
    /// How long a client may take to complete a TLS handshake or a request's headers, in milliseconds.
    header_timeout_ms / "SYNAPSE_HEADER_TIMEOUT_MS": u64 = 10_000;
    /// How long a shutdown waits for requests in flight, in milliseconds.
    drain_timeout_ms / "SYNAPSE_DRAIN_TIMEOUT_MS": u64 = 10_000;
    /// Threads that serve connections; 0: one a processor core.
    worker_threads / "SYNAPSE_WORKER_THREADS": usize = 0;
    /// What is logged to standard error: a level, or directives such as `info,synapse::engine=debug`.
    log_level / "SYNAPSE_LOG_LEVEL": String = "info".into();
    /// How log lines are written: `text` or `json`.
    #[arg(value_enum)]
    log_format / "SYNAPSE_LOG_FORMAT": LogFormat = LogFormat::Text;
}

/// The platform's streams, which every server has unless told otherwise.
pub const PLATFORM_STREAMS: [&str; 6] =
    ["model-events", "inference-events", "training-events", "platform-events", "agi-decisions", "error-events"];

/// A path that may be absent; empty text means absent, so that a layer can turn a file's setting off.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(from = "PathBuf")]
pub struct OptionalPath(pub Option<PathBuf>);

impl From<PathBuf> for OptionalPath {
    fn from(path: PathBuf) -> Self {
        Self((!path.as_os_str().is_empty()).then_some(path))
    }
}

impl std::str::FromStr for OptionalPath {
    type Err = std::convert::Infallible;
    fn from_str(text: &str) -> std::result::Result<Self, Self::Err> {
        Ok(PathBuf::from(text).into())
    }
}

/// An address that may be absent; empty text means absent, so that a layer can turn a file's setting off.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct OptionalAddress(pub Option<SocketAddr>);

impl TryFrom<String> for OptionalAddress {
    type Error = std::net::AddrParseError;
    fn try_from(text: String) -> std::result::Result<Self, Self::Error> {
        text.parse()
    }
}

impl std::str::FromStr for OptionalAddress {
    type Err = std::net::AddrParseError;
    fn from_str(text: &str) -> std::result::Result<Self, Self::Err> {
        if text.is_empty() { Ok(Self(None)) } else { text.parse().map(|address| Self(Some(address))) }
    }
}

/// API keys: a TOML array of tables, or the same as JSON text.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct ApiKeys(pub Vec<ApiKey>);

impl ApiKeys {
    fn parse(text: &str) -> std::result::Result<Self, String> {
        serde_json::from_str(text).map(Self).map_err(|e| format!("not a JSON array of API keys: {e}"))
    }
}

/// A list of names: a TOML array, or text separated by commas.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Names(pub Vec<String>);

impl Names {
    fn parse(text: &str) -> std::result::Result<Self, String> {
        Ok(Self(text.split(',').map(str::trim).filter(|s| !s.is_empty()).map(Into::into).collect()))
    }
}

/// Reads `fsync` or `os`.
pub fn parse_durability(text: &str) -> std::result::Result<Durability, String> {
    match text {
        "fsync" => Ok(Durability::Fsync),
        "os" => Ok(Durability::Os),
        _ => Err("must be fsync or os".into()),
    }
}

impl Settings {
    /// Reads the file, where one is named, puts the other layer over it, and checks the outcome.
    pub fn load(file: Option<&Path>, over: Layer) -> Result<Self> {
        let mut settings = Self::default();
        if let Some(path) = file {
            let text = std::fs::read_to_string(path)
                .map_err(|e| Error::invalid("config", format!("cannot read {}: {e}", path.display())))?;
            Self::parse_file(&text)
                .map_err(|e| Error::invalid("config", format!("{}: {e}", path.display())))?
                .apply(&mut settings);
        }
        over.apply(&mut settings);
        settings.validate()?;
        Ok(settings)
    }

    fn parse_file(text: &str) -> std::result::Result<Layer, toml::de::Error> {
        toml::from_str(text)
    }

    /// How long a message or a body may take from its beginning until it is whole: longer than headers, which are short.
    pub(crate) fn body_wait_max(&self) -> Duration {
        Duration::from_millis(self.header_timeout_ms) * 3
    }

    /// Whether the values make sense, each and together; names the one at fault.
    pub fn validate(&self) -> Result<()> {
        self.stream_names()?;
        self.keyring()?;
        self.validate_sizes()?;
        self.validate_tls()?;
        self.validate_reach("listen", self.listen)?;
        if let Some(address) = self.resp_listen.0 {
            self.validate_reach("resp_listen", address)?;
        }
        super::telemetry::filter(&self.log_level).map(drop)
    }

    fn validate_reach(&self, setting: &'static str, address: SocketAddr) -> Result<()> {
        if address.ip().is_loopback() || !self.api_keys.0.is_empty() || self.insecure {
            return Ok(());
        }
        let why = "is reachable from other machines: set api_keys, or insecure to serve everyone";
        Err(Error::invalid(setting, format!("{address} {why}")))
    }

    fn validate_sizes(&self) -> Result<()> {
        within("segment_bytes", self.segment_bytes, limits::SEGMENT_BYTES_MIN, limits::SEGMENT_BYTES_MAX)?;
        let (min, max) = (limits::CHECKPOINT_BYTES_MIN, limits::CHECKPOINT_BYTES_MAX);
        within("checkpoint_bytes", self.checkpoint_bytes, min, max)?;
        within("cache_bytes", self.cache_bytes as u64, 1 << 20, 1 << 40)?;
        within("event_bytes_max", self.event_bytes_max as u64, 1_024, limits::EVENT_BYTES_MAX as u64)?;
        within("publish_bytes_max", self.publish_bytes_max as u64, 1_024, limits::PUBLISH_BYTES_MAX as u64)?;
        if self.event_bytes_max > self.publish_bytes_max {
            return Err(Error::invalid("event_bytes_max", "may not exceed publish_bytes_max"));
        }
        within("groups_per_stream_max", self.groups_per_stream_max as u64, 1, limits::MEMBERS_MAX as u64)?;
        within("consumers_per_group_max", self.consumers_per_group_max as u64, 1, limits::MEMBERS_MAX as u64)?;
        within("consumer_idle_max_s", self.consumer_idle_max_s, 0, 10 * 365 * 24 * 3_600)?;
        within("connections_max", self.connections_max as u64, 1, 1_000_000)?;
        within("http2_streams_max", u64::from(self.http2_streams_max), 1, 100_000)?;
        within("header_timeout_ms", self.header_timeout_ms, 100, 600_000)?;
        within("drain_timeout_ms", self.drain_timeout_ms, 0, 3_600_000)?;
        within("worker_threads", self.worker_threads as u64, 0, 1_024)
    }

    fn validate_tls(&self) -> Result<()> {
        match (&self.tls_cert.0, &self.tls_key.0) {
            (Some(_), None) => Err(Error::invalid("tls_key", "is needed beside tls_cert")),
            (None, Some(_)) => Err(Error::invalid("tls_cert", "is needed beside tls_key")),
            (None, None) if self.tls_client_ca.0.is_some() => {
                Err(Error::invalid("tls_client_ca", "needs tls_cert and tls_key"))
            }
            _ => Ok(()),
        }
    }

    /// The names of the streams to make at start.
    pub fn stream_names(&self) -> Result<Vec<StreamName>> {
        self.streams
            .0
            .iter()
            .map(|name| StreamName::parse(name).map_err(|e| Error::invalid("streams", e.message())))
            .collect()
    }

    /// The keys that callers may present.
    pub fn keyring(&self) -> Result<Keyring> {
        Keyring::new(self.api_keys.0.clone())
    }
}

fn within(field: &str, value: u64, min: u64, max: u64) -> Result<()> {
    if (min..=max).contains(&value) {
        return Ok(());
    }
    Err(Error::invalid(field, format!("is {value}, must be from {min} to {max}")))
}

/// A failure of the world around the server, such as a port in use.
pub(super) fn world(what: &str, error: impl std::fmt::Display) -> Error {
    Error::new(Reason::Internal, format!("{what}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from_toml(text: &str) -> std::result::Result<Settings, String> {
        let mut settings = Settings::default();
        Settings::parse_file(text).map_err(|e| e.to_string())?.apply(&mut settings);
        settings.validate().map_err(|e| e.to_string())?;
        Ok(settings)
    }

    #[test]
    fn defaults_are_valid_and_loopback() {
        let settings = Settings::default();
        settings.validate().expect("defaults");
        assert!(settings.listen.ip().is_loopback());
        assert_eq!(settings.stream_names().expect("valid").len(), 6);
    }

    #[test]
    fn file_sets_values_and_unknown_keys_are_refused() {
        let settings = from_toml(
            "listen = \"127.0.0.1:0\"\ndurability = \"os\"\nstreams = [\"a\"]\nlog_format = \"json\"\n\
             [[api_keys]]\nname = \"helox\"\nsha256 = \"0000000000000000000000000000000000000000000000000000000000000000\"\n\
             grants = [{ streams = \"*\", permissions = [\"publish\"] }]\n",
        )
        .expect("valid");
        assert_eq!(settings.durability, Durability::Os);
        assert_eq!(settings.api_keys.0[0].name, "helox");
        assert_eq!(settings.log_format, LogFormat::Json);
        let error = from_toml("lisen = \"127.0.0.1:0\"").expect_err("unknown key");
        assert!(error.contains("lisen"), "{error}");
    }

    #[test]
    fn nonsense_names_the_setting_at_fault() {
        for (text, field) in [
            ("segment_bytes = 1", "segment_bytes"),
            ("event_bytes_max = 4000000\npublish_bytes_max = 2000", "event_bytes_max"),
            ("connections_max = 0", "connections_max"),
            ("checkpoint_bytes = 1000", "checkpoint_bytes: is 1000, must be from 1048576 to 1099511627776"),
            ("checkpoint_bytes = -1", "checkpoint_bytes"),
            ("checkpoint_bytes = \"256 MiB\"", "checkpoint_bytes"),
            ("streams = [\"\"]", "streams"),
            ("tls_cert = \"x.pem\"", "tls_key"),
            ("tls_client_ca = \"x.pem\"", "tls_client_ca"),
            ("listen = \"0.0.0.0:1\"", "listen"),
            ("log_level = \"=loud=\"", "log_level"),
        ] {
            let error = from_toml(text).expect_err(text);
            assert!(error.contains(field), "{text}: {error}");
        }
        from_toml("listen = \"0.0.0.0:1\"\ninsecure = true").expect("said so");
    }

    #[test]
    fn upper_layers_win() {
        let dir = tempfile::tempdir().expect("directory");
        let file = dir.path().join("synapse.toml");
        std::fs::write(&file, "segment_bytes = 1000000\ncache_bytes = 2000000\n").expect("written");
        let over = Layer { cache_bytes: Some(3_000_000), ..Layer::default() };
        let settings = Settings::load(Some(&file), over).expect("valid");
        assert_eq!((settings.segment_bytes, settings.cache_bytes), (1_000_000, 3_000_000));
        Settings::load(Some(&dir.path().join("missing.toml")), Layer::default()).expect_err("no such file");
    }

    #[test]
    fn every_setting_has_one_name() {
        for setting in TABLE {
            assert_eq!(setting.env, format!("SYNAPSE_{}", setting.name.to_uppercase()));
        }
    }
}
