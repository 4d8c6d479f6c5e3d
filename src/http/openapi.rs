//! The OpenAPI document, made of the table of routes.

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use bytes::Bytes;
use utoipa::openapi::path::PathItem;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::openapi::{ComponentsBuilder, InfoBuilder, OpenApi, OpenApiBuilder, PathsBuilder, SecurityRequirement};
use utoipa::{PartialSchema, ToSchema};

use super::App;
use super::problem::{Answer, Problem};
use super::request::{NoParameters, Query};
use super::routes::Route;

pub(super) fn routes() -> Vec<Route> {
    vec![Route::get("/openapi.json", "get_openapi", get).summary("This interface as an OpenAPI document").answers_with(
        StatusCode::OK,
        "application/json",
        "The document.",
    )]
}

async fn get(State(app): State<App>, _: Query<NoParameters>) -> Answer {
    Ok(([(CONTENT_TYPE, "application/json")], app.openapi.clone()).into_response())
}

/// The document of these routes, as JSON.
pub(super) fn document(routes: &[Route]) -> Bytes {
    Bytes::from(describe(routes).to_json().expect("the document is plain JSON"))
}

fn describe(routes: &[Route]) -> OpenApi {
    let mut paths = PathsBuilder::new();
    let mut components = ComponentsBuilder::new();
    for route in routes {
        paths = paths.path(route.path, PathItem::new(route.method.clone(), route.operation.clone()));
        components = components.schemas_from_iter(route.schemas.iter().cloned());
    }
    let mut schemas = Vec::new();
    Problem::schemas(&mut schemas);
    schemas.push((Problem::name().into_owned(), Problem::schema()));
    let bearer = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
    let info = InfoBuilder::new()
        .title("Synapse")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some("Streams of events over HTTP and JSON. Unknown query parameters and members are refused."));
    OpenApiBuilder::new()
        .info(info)
        .paths(paths)
        .components(Some(components.schemas_from_iter(schemas).security_scheme("api_key", bearer).build()))
        .security(Some([SecurityRequirement::new::<_, [&str; 0], &str>("api_key", [])]))
        .build()
}
