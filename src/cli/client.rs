//! The connection that client commands use: address, key, TLS, and errors as a person reads them.

use std::error::Error as _;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, anyhow};
use tonic::metadata::{Ascii, MetadataMap, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Code, Request, Status};
use tonic_types::StatusExt;

use super::usage;
use crate::error::chain;
use crate::proto::v1::backup_service_client::BackupServiceClient;
use crate::proto::v1::consumer_service_client::ConsumerServiceClient;
use crate::proto::v1::event_service_client::EventServiceClient;
use crate::proto::v1::stream_service_client::StreamServiceClient;

/// Where the server is and how to speak to it.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Connect {
    /// Address of the server.
    #[arg(long, env = "SYNAPSE_URL", default_value = "http://127.0.0.1:8002", value_name = "URL")]
    pub(super) url: String,
    /// API key, where the server asks for one.
    #[arg(long, env = "SYNAPSE_API_KEY", hide_env_values = true, value_name = "KEY")]
    api_key: Option<String>,
    /// PEM file with the authority of the server's certificate; needed for https.
    #[arg(long, env = "SYNAPSE_CA", value_name = "FILE")]
    ca: Option<PathBuf>,
    /// PEM file with a client certificate, where the server asks for one.
    #[arg(long, env = "SYNAPSE_CERT", value_name = "FILE", requires = "key_file")]
    cert: Option<PathBuf>,
    /// PEM file with the key of the client certificate.
    #[arg(long, env = "SYNAPSE_KEY_FILE", value_name = "FILE", requires = "cert")]
    key_file: Option<PathBuf>,
}

/// A channel that presents the API key with every request.
pub(super) type Service = InterceptedService<Channel, PresentKey>;

/// Adds the API key to requests.
#[derive(Clone, Debug)]
pub(super) struct PresentKey(Option<MetadataValue<Ascii>>);

impl Interceptor for PresentKey {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(value) = &self.0 {
            request.metadata_mut().insert("authorization", value.clone());
        }
        Ok(request)
    }
}

impl Connect {
    /// Connects; fails where nobody listens there.
    pub(super) async fn open(&self) -> anyhow::Result<Service> {
        Ok(InterceptedService::new(self.channel().await?, self.present_key()?))
    }

    /// Connects without adding the key to requests; see [`Connect::sign`].
    pub(super) async fn channel(&self) -> anyhow::Result<Channel> {
        let connected = self.endpoint()?.connect().await;
        connected.map_err(|e| anyhow!("cannot connect to {}: {}", self.url, chain(&e.to_string(), e.source())))
    }

    /// Adds the API key, where there is one, to a request of a bare channel.
    pub(super) fn sign(&self, metadata: &mut MetadataMap) -> anyhow::Result<()> {
        if let PresentKey(Some(value)) = self.present_key()? {
            metadata.insert("authorization", value);
        }
        Ok(())
    }

    /// What adds the API key to requests.
    fn present_key(&self) -> anyhow::Result<PresentKey> {
        let Some(key) = &self.api_key else { return Ok(PresentKey(None)) };
        match MetadataValue::try_from(format!("Bearer {key}")) {
            Ok(value) => Ok(PresentKey(Some(value))),
            Err(_) => usage("the API key has characters that no key has"),
        }
    }

    fn endpoint(&self) -> anyhow::Result<Endpoint> {
        let Ok(endpoint) = Endpoint::from_shared(self.url.clone()) else {
            return usage(format!("not an address: {:?}", self.url));
        };
        let endpoint = endpoint
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(4 * STREAM_WINDOW_BYTES)
            .tcp_nodelay(true)
            .connect_timeout(CONNECT_TIMEOUT)
            .http2_keep_alive_interval(KEEPALIVE)
            .keep_alive_timeout(KEEPALIVE);
        match self.url.split_once("://").map(|(scheme, _)| scheme) {
            Some("http") => Ok(endpoint),
            Some("https") => Ok(endpoint.tls_config(self.tls()?)?),
            _ => usage(format!("the address {:?} must begin with http:// or https://", self.url)),
        }
    }

    fn tls(&self) -> anyhow::Result<ClientTlsConfig> {
        let Some(ca) = &self.ca else {
            return usage("https needs --ca, the authority of the server's certificate");
        };
        let mut tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(read(ca)?));
        if let (Some(cert), Some(key)) = (&self.cert, &self.key_file) {
            tls = tls.identity(Identity::from_pem(read(cert)?, read(key)?));
        }
        Ok(tls)
    }

    pub(super) async fn events(&self) -> anyhow::Result<EventServiceClient<Service>> {
        Ok(EventServiceClient::new(self.open().await?).max_decoding_message_size(MESSAGE_BYTES_MAX))
    }

    pub(super) async fn consumers(&self) -> anyhow::Result<ConsumerServiceClient<Service>> {
        Ok(ConsumerServiceClient::new(self.open().await?).max_decoding_message_size(MESSAGE_BYTES_MAX))
    }

    pub(super) async fn backups(&self) -> anyhow::Result<BackupServiceClient<Service>> {
        Ok(BackupServiceClient::new(self.open().await?).max_decoding_message_size(MESSAGE_BYTES_MAX))
    }

    pub(super) async fn streams(&self) -> anyhow::Result<StreamServiceClient<Service>> {
        Ok(StreamServiceClient::new(self.open().await?).max_decoding_message_size(MESSAGE_BYTES_MAX))
    }
}

fn read(path: &PathBuf) -> anyhow::Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

/// The server's refusal as a person reads it: its reason, its message, and the fields at fault.
pub(super) fn refused(status: Status) -> anyhow::Error {
    let details = status.get_error_details();
    let Some(info) = details.error_info() else { return unanswered(&status) };
    let mut text = format!("{}: {}", info.reason, status.message());
    for violation in details.bad_request().map_or(&[][..], |b| &b.field_violations) {
        if !text.contains(&violation.description) {
            text.push_str(&format!("; {}: {}", violation.field, violation.description));
        }
    }
    anyhow!(text)
}

/// What no server of ours said: the connection ended, or something else answers at that address. Whether a request that
/// changes something took effect is not known then.
fn unanswered(status: &Status) -> anyhow::Error {
    let what = match status.code() {
        Code::Unavailable | Code::Unknown | Code::Cancelled | Code::Aborted => {
            "the connection ended before the answer came"
        }
        Code::DeadlineExceeded => "no answer came in time",
        _ => "the answer is not one of a Synapse server",
    };
    anyhow!("{what}: {}", chain(status.message(), status.source()))
}

/// The refusal of one request of a stream, told the same way.
pub(super) fn refused_within(error: &crate::proto::v1::Error) -> anyhow::Error {
    anyhow!("{}: {}", error.reason, error.message)
}

/// Window of one stream; the connection has four times as much.
const STREAM_WINDOW_BYTES: u32 = 4 << 20;
/// A message holds at least one event of whatever size the server allows.
const MESSAGE_BYTES_MAX: usize = 64 << 20;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const KEEPALIVE: Duration = Duration::from_secs(20);
