//! How a connection is set up: address, key, TLS, time limits.

use std::sync::Arc;
use std::time::Duration;

use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Request, Status};

use super::error::{Error, ErrorKind, Result};
use super::{Client, Shared};
use crate::error::chain;

/// A channel that presents the API key with every request.
pub type Service = InterceptedService<Channel, PresentKey>;

/// Adds the API key to requests.
#[derive(Clone, Debug)]
pub struct PresentKey(Option<MetadataValue<Ascii>>);

impl Interceptor for PresentKey {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(value) = &self.0 {
            request.metadata_mut().insert("authorization", value.clone());
        }
        Ok(request)
    }
}

/// Settings of a connection. Made by [`Client::builder`].
#[derive(Clone)]
#[must_use]
pub struct ClientBuilder {
    url: String,
    api_key: Option<String>,
    ca_pem: Option<Vec<u8>>,
    identity_pem: Option<(Vec<u8>, Vec<u8>)>,
    server_name: Option<String>,
    connect_timeout: Duration,
    request_timeout: Duration,
    keepalive: Duration,
    keepalive_timeout: Duration,
}

impl ClientBuilder {
    pub(super) fn new(url: String) -> Self {
        Self {
            url,
            api_key: None,
            ca_pem: None,
            identity_pem: None,
            server_name: None,
            connect_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_secs(30),
            keepalive: Duration::from_secs(20),
            keepalive_timeout: Duration::from_secs(10),
        }
    }

    /// API key, where the server asks for one.
    pub fn api_key(mut self, key: impl Into<String>) -> Self {
        self.api_key = Some(key.into());
        self
    }

    /// The authority of the server's certificate, as PEM; needed for `https`.
    pub fn ca_certificate(mut self, pem: impl AsRef<[u8]>) -> Self {
        self.ca_pem = Some(pem.as_ref().to_vec());
        self
    }

    /// A certificate of the client with its key, as PEM, where the server asks for one.
    pub fn client_certificate(mut self, pem: impl AsRef<[u8]>, key_pem: impl AsRef<[u8]>) -> Self {
        self.identity_pem = Some((pem.as_ref().to_vec(), key_pem.as_ref().to_vec()));
        self
    }

    /// The name that the server's certificate must have, where it is not the host of the address.
    pub fn server_name(mut self, name: impl Into<String>) -> Self {
        self.server_name = Some(name.into());
        self
    }

    /// How long making a connection may take; 10 s unless set.
    pub fn connect_timeout(mut self, limit: Duration) -> Self {
        self.connect_timeout = limit;
        self
    }

    /// How long an answer may take, besides what a pull waits for entries; 30 s unless set.
    pub fn request_timeout(mut self, limit: Duration) -> Self {
        self.request_timeout = limit;
        self
    }

    /// How often a connection with something under way is probed, and how long the answer may take until it counts as
    /// lost; 20 s and 10 s unless set.
    pub fn keepalive(mut self, interval: Duration, timeout: Duration) -> Self {
        (self.keepalive, self.keepalive_timeout) = (interval, timeout);
        self
    }

    /// Connects. Fails where nobody listens there; a connection that is lost later is made again as needed.
    pub async fn connect(self) -> Result<Client> {
        let (endpoint, key) = (self.endpoint()?, self.present_key()?);
        let connected = tokio::time::timeout(self.connect_timeout, endpoint.connect()).await;
        let channel = match connected {
            Ok(Ok(channel)) => channel,
            Ok(Err(error)) => {
                let why = chain(&error.to_string(), std::error::Error::source(&error));
                return Err(Error::new(ErrorKind::Unreachable, format!("cannot connect to {}: {why}", self.url)));
            }
            Err(_) => {
                let limit = self.connect_timeout;
                let message = format!("cannot connect to {}: no answer within {limit:?}", self.url);
                return Err(Error::new(ErrorKind::Unreachable, message));
            }
        };
        Ok(self.client(channel, key))
    }

    /// A client that connects with its first request: for services that may start before the server does. Must be
    /// called within a tokio runtime.
    pub fn connect_lazily(self) -> Result<Client> {
        let (channel, key) = (self.endpoint()?.connect_lazy(), self.present_key()?);
        Ok(self.client(channel, key))
    }

    fn client(self, channel: Channel, key: PresentKey) -> Client {
        let service = InterceptedService::new(channel, key);
        Client { service, shared: Arc::new(Shared { url: self.url, request_timeout: self.request_timeout }) }
    }

    fn present_key(&self) -> Result<PresentKey> {
        let Some(key) = &self.api_key else { return Ok(PresentKey(None)) };
        let Ok(mut value) = MetadataValue::try_from(format!("Bearer {key}")) else {
            return Err(Error::usage("the API key has characters that no key has"));
        };
        value.set_sensitive(true);
        Ok(PresentKey(Some(value)))
    }

    fn endpoint(&self) -> Result<Endpoint> {
        let bad = |why: &str| Error::usage(format!("the address {:?} {why}", self.url));
        let endpoint = Endpoint::from_shared(self.url.clone()).map_err(|_| bad("is none"))?;
        let endpoint = endpoint
            .user_agent(concat!("synapse-client/", env!("CARGO_PKG_VERSION")))
            .map_err(|_| bad("is none"))?
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(4 * STREAM_WINDOW_BYTES)
            .tcp_nodelay(true)
            .connect_timeout(self.connect_timeout)
            .http2_keep_alive_interval(self.keepalive)
            .keep_alive_timeout(self.keepalive_timeout);
        match endpoint.uri().scheme_str() {
            Some("http") if self.ca_pem.is_some() || self.identity_pem.is_some() => {
                Err(bad("must begin with https:// where certificates are given"))
            }
            Some("http") => Ok(endpoint),
            Some("https") => endpoint.tls_config(self.tls()?).map_err(|error| {
                let why = chain(&error.to_string(), std::error::Error::source(&error));
                Error::usage(format!("the certificates cannot be used: {why}"))
            }),
            _ => Err(bad("must begin with http:// or https://")),
        }
    }

    fn tls(&self) -> Result<ClientTlsConfig> {
        let Some(ca) = &self.ca_pem else {
            return Err(Error::usage("https needs ca_certificate, the authority of the server's certificate"));
        };
        let mut tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(ca));
        if let Some((pem, key_pem)) = &self.identity_pem {
            tls = tls.identity(Identity::from_pem(pem, key_pem));
        }
        if let Some(name) = &self.server_name {
            tls = tls.domain_name(name);
        }
        Ok(tls)
    }
}

/// Window of one stream; the connection has four times as much.
const STREAM_WINDOW_BYTES: u32 = 4 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    async fn refused(builder: ClientBuilder) -> Error {
        builder.connect().await.err().expect("must be refused")
    }

    #[tokio::test]
    async fn bad_settings_are_told_before_anything_is_sent() {
        for url in ["", "127.0.0.1:8002", "ftp://x", "http://", "https://127.0.0.1:1"] {
            assert_eq!(refused(Client::builder(url)).await.kind(), ErrorKind::Usage, "{url}");
        }
        let key = refused(Client::builder("http://127.0.0.1:1").api_key("a\nb")).await;
        assert_eq!(key.kind(), ErrorKind::Usage);
        let plain = refused(Client::builder("http://127.0.0.1:1").ca_certificate("x")).await;
        assert!(plain.message().contains("https://"), "{plain}");
    }

    #[tokio::test]
    async fn nobody_there_is_unreachable() {
        let error = refused(Client::builder("http://127.0.0.1:1")).await;
        assert_eq!(error.kind(), ErrorKind::Unreachable);
        assert!(error.message().contains("127.0.0.1:1"), "{error}");
    }
}
