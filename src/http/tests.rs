//! The table of routes against what is made of it, and routing itself, without an engine behind it.

use std::collections::BTreeSet;

use serde_json::Value;

use super::*;

fn described() -> BTreeSet<(String, String)> {
    let document: Value = serde_json::from_slice(&openapi::document(&routes::all())).expect("JSON");
    let paths = document["paths"].as_object().expect("paths");
    let methods = |(path, item): (&String, &Value)| {
        let methods: Vec<_> =
            item.as_object().expect("methods").keys().map(|m| (m.to_uppercase(), path.clone())).collect();
        methods
    };
    paths.iter().flat_map(methods).collect()
}

#[test]
fn the_document_has_every_route_and_nothing_else() {
    let routes = routes::all();
    let listed: BTreeSet<_> =
        routes.iter().map(|r| (home::method_name(&r.method).to_owned(), r.path.to_owned())).collect();
    assert_eq!(listed.len(), routes.len(), "a route is there twice");
    assert_eq!(described(), listed);
    assert!(routes.iter().all(|route| !route.summary.is_empty()), "every route has a summary");
}

#[test]
fn the_document_refers_to_nothing_that_it_lacks() {
    let text = String::from_utf8(openapi::document(&routes::all()).to_vec()).expect("text");
    let document: Value = serde_json::from_str(&text).expect("JSON");
    let schemas = document["components"]["schemas"].as_object().expect("schemas");
    for part in text.split("\"#/components/schemas/").skip(1) {
        let name = part.split('"').next().expect("a name");
        assert!(schemas.contains_key(name), "{name} is not described");
    }
    let ids: Vec<&str> = text.split("\"operationId\":\"").skip(1).filter_map(|part| part.split('"').next()).collect();
    assert_eq!(ids.len(), ids.iter().collect::<BTreeSet<_>>().len(), "operation ids are unique");
}

#[test]
fn options_are_checked() {
    HttpOptions::default().validate().expect("the defaults are good");
    for origin in ["app.example", "https://", "https://app.example/", "https://app.example/x"] {
        let options = HttpOptions { cors_origins: vec![origin.into()], ..HttpOptions::default() };
        options.validate().expect_err(origin);
    }
}
