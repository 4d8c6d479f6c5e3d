//! Who asks, and from where: API keys as bearer tokens, and the Origin of browsers.
//!
//! A browser sends `Origin` with every request that changes something. One that is neither this server's own nor
//! listed by the settings is refused, so that no web page can use a server that its reader happens to reach. Without
//! keys "own" means a host given by address (or `localhost`): a name could be made to point here by somebody else.

use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, HOST, ORIGIN};
use axum::http::{HeaderMap, HeaderValue, Method, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::net::IpAddr;

use super::App;
use super::problem::{Answer, Failure};
use crate::access::Caller;
use crate::error::{Error, Reason, Result};

/// Layer of the routes that need a caller: checks Origin and key, and hands the [`Caller`] on.
pub(super) async fn authenticate(State(app): State<App>, request: Request, next: Next) -> Response {
    match admit(&app, request) {
        Ok(request) => next.run(request).await,
        Err(failure) => failure.into_response(),
    }
}

fn admit(app: &App, mut request: Request) -> Answer<Request> {
    if !matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS) {
        let named = !app.keyring.is_empty();
        check_origin(request.headers(), request.uri(), &app.options.cors_origins, named)?;
    }
    let caller = caller(app, request.headers())?;
    request.extensions_mut().insert(caller);
    Ok(request)
}

fn caller(app: &App, headers: &HeaderMap) -> Result<Caller> {
    let Some(value) = headers.get(AUTHORIZATION) else { return app.keyring.authenticate(None) };
    if app.keyring.is_empty() {
        return Ok(Caller::ANYONE);
    }
    let key = value.to_str().ok().and_then(|text| {
        let (scheme, key) = text.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
    });
    match key {
        Some(key) => app.keyring.authenticate(Some(key)),
        None => Err(Error::new(Reason::Unauthenticated, "the authorization header is not a bearer token")),
    }
}

fn check_origin(headers: &HeaderMap, uri: &Uri, allowed: &[String], names_are_safe: bool) -> Answer<()> {
    let Some(origin) = headers.get(ORIGIN) else { return Ok(()) };
    let text = origin.to_str().unwrap_or_default();
    if allowed.iter().any(|a| a == "*" || a.eq_ignore_ascii_case(text)) || is_own(text, headers, uri, names_are_safe) {
        return Ok(());
    }
    let error = Error::new(Reason::PermissionDenied, "requests from this origin are not allowed").with("origin", text);
    Err(Failure::from(error))
}

fn is_own(origin: &str, headers: &HeaderMap, uri: &Uri, names_are_safe: bool) -> bool {
    let Some((_, authority)) = origin.split_once("://") else { return false };
    let host = headers.get(HOST).and_then(|h: &HeaderValue| h.to_str().ok());
    let Some(host) = host.or_else(|| uri.authority().map(|a| a.as_str())) else { return false };
    authority.eq_ignore_ascii_case(host) && (names_are_safe || is_address(host))
}

fn is_address(authority: &str) -> bool {
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => host,
        _ => authority,
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(origin: &str, host: &str, allowed: &[&str], names_are_safe: bool) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(ORIGIN, origin.parse().expect("a header value"));
        headers.insert(HOST, host.parse().expect("a header value"));
        let allowed: Vec<String> = allowed.iter().map(|a| (*a).to_owned()).collect();
        check_origin(&headers, &Uri::from_static("/"), &allowed, names_are_safe).is_ok()
    }

    #[test]
    fn foreign_origins_are_refused() {
        assert!(check("http://127.0.0.1:8002", "127.0.0.1:8002", &[], false));
        assert!(check("http://[::1]:8002", "[::1]:8002", &[], false));
        assert!(check("http://localhost:8002", "localhost:8002", &[], false));
        assert!(!check("http://evil.example:8002", "evil.example:8002", &[], false), "rebound name");
        assert!(check("http://synapse.example", "synapse.example", &[], true), "keys protect names");
        assert!(!check("http://evil.example", "127.0.0.1:8002", &[], true));
        assert!(!check("null", "127.0.0.1:8002", &[], true));
        assert!(check("https://app.example", "127.0.0.1:8002", &["https://app.example"], false));
        assert!(check("null", "127.0.0.1:8002", &["*"], false));
        check_origin(&HeaderMap::new(), &Uri::from_static("/"), &[], false).expect("not a browser");
    }
}
