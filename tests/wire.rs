//! The front ends as clients see them: over real sockets, one binary, a module a topic.

#[path = "wire/http.rs"]
mod http;
#[path = "wire/http_groups.rs"]
mod http_groups;
#[path = "wire/http_live.rs"]
mod http_live;
#[path = "wire/http_publish.rs"]
mod http_publish;
#[path = "wire/http_refusals.rs"]
mod http_refusals;
#[path = "wire/http_streams.rs"]
mod http_streams;
