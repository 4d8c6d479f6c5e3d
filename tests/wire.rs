//! The front ends as clients see them: over real sockets, one binary, a module a topic.

#[path = "wire/admission.rs"]
mod admission;
#[path = "wire/grpc.rs"]
mod grpc;
#[path = "wire/grpc_access.rs"]
mod grpc_access;
#[path = "wire/grpc_backup.rs"]
mod grpc_backup;
#[path = "wire/grpc_conduct.rs"]
mod grpc_conduct;
#[path = "wire/grpc_consume.rs"]
mod grpc_consume;
#[path = "wire/grpc_ends.rs"]
mod grpc_ends;
#[path = "wire/grpc_groups.rs"]
mod grpc_groups;
#[path = "wire/grpc_publish.rs"]
mod grpc_publish;
#[path = "wire/grpc_refusals.rs"]
mod grpc_refusals;
#[path = "wire/grpc_streams.rs"]
mod grpc_streams;
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
