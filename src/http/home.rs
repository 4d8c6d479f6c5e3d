//! The page at `/`: plain, without scripts, naming every endpoint. It shows nothing of what the server holds.

use std::fmt::Write;

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use axum::response::IntoResponse;
use bytes::Bytes;
use utoipa::openapi::path::HttpMethod;

use super::App;
use super::problem::Answer;
use super::request::{NoParameters, Query};
use super::routes::Route;

pub(super) fn routes() -> Vec<Route> {
    vec![Route::get("/", "get_home", get).summary("A page that names the endpoints").open().answers_with(
        StatusCode::OK,
        "text/html",
        "The page.",
    )]
}

async fn get(State(app): State<App>, _: Query<NoParameters>) -> Answer {
    let headers = [
        (CONTENT_TYPE, "text/html; charset=utf-8"),
        (CONTENT_SECURITY_POLICY, "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"),
    ];
    Ok((headers, app.home.clone()).into_response())
}

/// The page of these routes.
pub(super) fn page(routes: &[Route]) -> Bytes {
    let mut html = String::from(HEAD);
    for route in routes {
        let _ = writeln!(
            html,
            "<tr><td><code>{}</code></td><td><code>{}</code></td><td>{}</td></tr>",
            method_name(&route.method),
            route.path,
            route.summary
        );
    }
    html.push_str("</table>\n</html>\n");
    Bytes::from(html)
}

/// A method as HTTP spells it.
pub(super) fn method_name(method: &HttpMethod) -> &'static str {
    match method {
        HttpMethod::Get => "GET",
        HttpMethod::Post => "POST",
        HttpMethod::Patch => "PATCH",
        HttpMethod::Delete => "DELETE",
        HttpMethod::Put => "PUT",
        HttpMethod::Head => "HEAD",
        HttpMethod::Options => "OPTIONS",
        HttpMethod::Trace => "TRACE",
    }
}

const HEAD: &str = concat!(
    "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<title>Synapse</title>\n",
    "<style>body{font-family:system-ui,sans-serif;margin:2rem;line-height:1.5}td{padding-right:1.5rem}</style>\n",
    "<h1>Synapse ",
    env!("CARGO_PKG_VERSION"),
    "</h1>\n<p>Streams of events. The interface in full: <a href=\"/openapi.json\">openapi.json</a>.</p>\n<table>\n",
);
