//! TLS on the one port: gRPC by ALPN, HTTP/1.1 by curl, client certificates where they are asked for.
//!
//! The certificates beside this file are made for these tests and hold until the year 2125.

use std::process::Command;

use crate::process::{Server, beside, outcome};

fn path(name: &str) -> String {
    beside(&format!("tls/{name}")).to_string_lossy().into_owned()
}

#[test]
fn grpc_and_http_are_served_over_tls() {
    let server = Server::start_with(&["--tls-cert", &path("server.pem"), "--tls-key", &path("server.key")]);
    assert!(server.url.starts_with("https://"), "{}", server.url);
    server.run(&["publish", "s", "--data", "{}", "--ca", &path("ca.pem")]).ok();
    assert!(server.run(&["info", "--ca", &path("client.pem")]).failed(1).contains("cannot connect"));
    for version in ["--http1.1", "--http2"] {
        let mut curl = Command::new("curl");
        curl.args(["-sS", version, "--cacert", &path("ca.pem"), &format!("{}/health", server.url)]);
        assert!(outcome(curl, "").ok().contains("serving"), "{version}");
    }
}

#[test]
fn client_certificates_are_checked_where_asked_for() {
    let (cert, key, ca) = (path("server.pem"), path("server.key"), path("ca.pem"));
    let server = Server::start_with(&["--tls-cert", &cert, "--tls-key", &key, "--tls-client-ca", &ca]);
    assert_ne!(server.run(&["info", "--ca", &ca]).code, Some(0));
    let (client_cert, client_key) = (path("client.pem"), path("client.key"));
    server.run(&["info", "--ca", &ca, "--cert", &client_cert, "--key-file", &client_key]).ok();
}

#[test]
fn a_certificate_that_does_not_fit_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    for (cert, key, setting) in [
        ("server.pem", "client.key", "tls_cert"),
        ("server.key", "server.key", "tls_cert"),
        ("missing.pem", "server.key", "tls_cert"),
        ("server.pem", "ca.pem", "tls_key"),
    ] {
        let flags = ["--tls-cert", &path(cert), "--tls-key", &path(key)];
        let err = outcome(Server::command(&folder.path().join("data"), &flags), "").failed(1);
        assert!(err.contains(setting), "{cert} {key}: {err}");
    }
}
