//! Log lines on standard error, as text or JSON. Payloads are never logged.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use super::settings::{LogFormat, Settings};
use crate::error::{Error, Result};

/// Reads a level or directives, as `log_level` takes them.
pub(super) fn filter(directives: &str) -> Result<EnvFilter> {
    // A peer that breaks the rules of HTTP/2 is worth no line each time, unless it is asked for.
    EnvFilter::try_new(format!("h2=error,{directives}")).map_err(|e| Error::invalid("log_level", e.to_string()))
}

/// Turns logging on for the process. A second call changes nothing: whoever embeds the server may have a subscriber
/// of their own.
pub fn init(settings: &Settings) -> Result<()> {
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter(&settings.log_level)?)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    let outcome = match settings.log_format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
    if outcome.is_err() {
        tracing::debug!("logging was set up before");
    }
    Ok(())
}
