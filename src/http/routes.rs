//! The table of routes: one list from which the router, the OpenAPI document and the page at `/` are made, so that
//! none of them can know of a route that the others do not.

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::handler::Handler;
use axum::http::StatusCode;
use axum::http::header::ALLOW;
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, MethodRouter, on};
use utoipa::openapi::path::{HttpMethod, Operation, OperationBuilder, Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::response::ResponseBuilder;
use utoipa::openapi::schema::Schema;
use utoipa::openapi::{ContentBuilder, Ref, RefOr, Required};
use utoipa::{IntoParams, ToSchema};

use super::problem::{Failure, PROBLEM_JSON};
use super::{App, access, observe};

const JSON: &str = "application/json";

/// One method of one path: what serves it and what is said of it.
pub(super) struct Route {
    pub(super) method: HttpMethod,
    pub(super) path: &'static str,
    pub(super) summary: &'static str,
    pub(super) operation: Operation,
    pub(super) schemas: Vec<(String, RefOr<Schema>)>,
    open: bool,
    handler: MethodRouter<App>,
}

/// All routes of the front end.
pub(super) fn all() -> Vec<Route> {
    let families = [
        super::events::routes(),
        super::streams::routes(),
        super::messages::routes(),
        super::live::routes(),
        super::trim::routes(),
        super::groups::routes(),
        super::consume::routes(),
        super::pending::routes(),
        super::dead_letters::routes(),
        super::health::routes(),
        super::scrape::routes(),
        super::openapi::routes(),
        super::home::routes(),
    ];
    families.into_iter().flatten().collect()
}

impl Route {
    pub(super) fn get<H: Handler<T, App>, T: 'static>(path: &'static str, id: &'static str, handler: H) -> Self {
        Self::new(HttpMethod::Get, path, id, on(MethodFilter::GET, handler))
    }
    pub(super) fn post<H: Handler<T, App>, T: 'static>(path: &'static str, id: &'static str, handler: H) -> Self {
        Self::new(HttpMethod::Post, path, id, on(MethodFilter::POST, handler))
    }
    pub(super) fn patch<H: Handler<T, App>, T: 'static>(path: &'static str, id: &'static str, handler: H) -> Self {
        Self::new(HttpMethod::Patch, path, id, on(MethodFilter::PATCH, handler))
    }
    pub(super) fn delete<H: Handler<T, App>, T: 'static>(path: &'static str, id: &'static str, handler: H) -> Self {
        Self::new(HttpMethod::Delete, path, id, on(MethodFilter::DELETE, handler))
    }

    fn new(method: HttpMethod, path: &'static str, id: &'static str, handler: MethodRouter<App>) -> Self {
        let tag = path.split('/').nth(1).filter(|t| !t.is_empty()).unwrap_or("home");
        let tag = if path.contains("/groups") { "groups" } else { tag };
        let names = path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
        let operation = OperationBuilder::new()
            .operation_id(Some(id))
            .tag(tag)
            .parameters(Some(names.map(path_parameter)))
            .response("default", problem("What went wrong: RFC 9457, with `reason`."))
            .build();
        Self { method, path, summary: "", operation, schemas: Vec::new(), open: false, handler }
    }

    fn with(mut self, change: impl FnOnce(OperationBuilder) -> OperationBuilder) -> Self {
        self.operation = change(self.operation.into()).build();
        self
    }

    /// Says in one line what it does.
    pub(super) fn summary(mut self, summary: &'static str) -> Self {
        self.summary = summary;
        self = self.with(|operation| operation.summary(Some(summary)));
        self
    }

    /// Says more of what it does.
    pub(super) fn describe(mut self, description: &'static str) -> Self {
        self = self.with(|operation| operation.description(Some(description)));
        self
    }

    /// Served to everyone, without a key.
    pub(super) fn open(mut self) -> Self {
        self.open = true;
        self = self.with(|operation| operation.securities(Some([])));
        self
    }

    /// Takes these query parameters.
    pub(super) fn query<Q: IntoParams>(mut self) -> Self {
        for parameter in Q::into_params(|| Some(ParameterIn::Query)) {
            self = self.with(|operation| operation.parameter(parameter));
        }
        self
    }

    /// Looks at this request header.
    pub(super) fn header(mut self, name: &'static str, description: &'static str) -> Self {
        let parameter = ParameterBuilder::from(Parameter::new(name))
            .parameter_in(ParameterIn::Header)
            .required(Required::False)
            .description(Some(description))
            .schema(Some(<String as utoipa::PartialSchema>::schema()));
        self = self.with(|operation| operation.parameter(parameter));
        self
    }

    /// Takes a JSON body of this shape.
    pub(super) fn body<B: ToSchema>(mut self) -> Self {
        let content = ContentBuilder::new().schema(Some(self.name_schema::<B>())).build();
        let body = RequestBodyBuilder::new().content(JSON, content).required(Some(Required::True)).build();
        self = self.with(|operation| operation.request_body(Some(body)));
        self
    }

    /// Takes a body of any of these media types.
    pub(super) fn bodies(mut self, kinds: &[&str]) -> Self {
        let body = kinds.iter().fold(RequestBodyBuilder::new().required(Some(Required::True)), |body, kind| {
            body.content(*kind, ContentBuilder::new().build())
        });
        self = self.with(|operation| operation.request_body(Some(body.build())));
        self
    }

    /// Answers with JSON of this shape.
    pub(super) fn answers<A: ToSchema>(mut self, status: StatusCode, description: &'static str) -> Self {
        let content = ContentBuilder::new().schema(Some(self.name_schema::<A>())).build();
        let response = ResponseBuilder::new().description(description).content(JSON, content).build();
        self = self.with(|operation| operation.response(status.as_str(), response));
        self
    }

    /// Answers with a body of this media type.
    pub(super) fn answers_with(mut self, status: StatusCode, kind: &'static str, description: &'static str) -> Self {
        let content = ContentBuilder::new().build();
        let response = ResponseBuilder::new().description(description).content(kind, content).build();
        self = self.with(|operation| operation.response(status.as_str(), response));
        self
    }

    fn name_schema<S: ToSchema>(&mut self) -> Ref {
        S::schemas(&mut self.schemas);
        self.schemas.push((S::name().into_owned(), S::schema()));
        Ref::from_schema_name(S::name())
    }
}

fn path_parameter(name: &str) -> ParameterBuilder {
    ParameterBuilder::new()
        .name(name)
        .parameter_in(ParameterIn::Path)
        .required(Required::True)
        .schema(Some(<String as utoipa::PartialSchema>::schema()))
}

fn problem(description: &str) -> utoipa::openapi::Response {
    let content = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
    ResponseBuilder::new().description(description).content(PROBLEM_JSON, content).build()
}

/// The router of these routes.
pub(super) fn router(routes: Vec<Route>, app: &App) -> Router<App> {
    routes.into_iter().fold(Router::new(), |router, route| {
        let path = route.path;
        let handler = match route.open {
            true => route.handler,
            false => route.handler.layer(from_fn_with_state(app.clone(), access::authenticate)),
        };
        // Outermost, so that refused requests are counted too, under the route's own name.
        let watched = app.clone();
        router.route(
            path,
            handler.layer(from_fn(move |request, next| observe::request(watched.clone(), path, request, next))),
        )
    })
}

/// Answers for paths that are not there.
pub(super) async fn no_such_path(request: Request<Body>) -> impl IntoResponse {
    Failure::no_such_path(request.uri().path())
}

/// Layer that says in words what the router answers to a method that a path does not have.
pub(super) async fn explain_method(request: Request<Body>, next: Next) -> Response {
    let method = request.method().clone();
    let response = next.run(request).await;
    if response.status() != StatusCode::METHOD_NOT_ALLOWED {
        return response;
    }
    Failure::no_such_method(method.as_str(), response.headers().get(ALLOW).cloned()).into_response()
}
