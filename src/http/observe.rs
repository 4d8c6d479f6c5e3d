//! Watches requests as they pass: how many, how long, with which status, by route.

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use tokio::time::Instant;

use super::App;

/// Layer of one route; `route` is its pattern, so that labels stay few whatever clients ask for.
pub(super) async fn request(app: App, route: &'static str, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let method = method_name(request.method());
    let running = app.metrics.http.start(route, method);
    let response = next.run(request).await;
    running.end(response.status().as_u16(), started.elapsed());
    response
}

fn method_name(method: &axum::http::Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "POST" => "POST",
        "PATCH" => "PATCH",
        "DELETE" => "DELETE",
        "PUT" => "PUT",
        "OPTIONS" => "OPTIONS",
        _ => "other",
    }
}
