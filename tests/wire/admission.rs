//! Texts that a client chooses are bounded alike on every surface, and none ends the engine.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;

use synapse::proto::v1::nack_action::{Action, DeadLetter};
use synapse::proto::v1::{self, EntryId};
use tonic::Code;

use crate::grpc::{Server, assert_refused, failed, ranges};

/// A reason that no small segment takes, and one that a command line takes.
const LONG: usize = 3 << 20;
const LONG_ARGUMENT: usize = 100 << 10;

fn nack(ids: &[EntryId], reason: usize) -> v1::NackRequest {
    let action = Some(v1::NackAction { action: Some(Action::DeadLetter(DeadLetter { reason: "x".repeat(reason) })) });
    v1::NackRequest { stream: "s".into(), group: "g".into(), ids: ranges(ids), holder: None, action }
}

/// Posts a body, and says what was answered.
fn post(server: &Server, path: &str, body: &str) -> String {
    let mut socket = TcpStream::connect(server.running.addr()).expect("the server listens");
    let head = "connection: close\r\nhost: 127.0.0.1\r\ncontent-type: application/json";
    // A server that refuses a body may close before it has read it.
    let _ = write!(socket, "POST {path} HTTP/1.1\r\n{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    let mut answer = Vec::new();
    let _ = socket.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

/// Runs `synapse nack` with this reason, and says what it printed.
fn run_nack(server: &Server, id: &EntryId, reason: usize) -> String {
    let (url, id, reason) = (server.running.url(), format!("{}-{}", id.ms, id.seq), "x".repeat(reason));
    let mut command = Command::new(env!("CARGO_BIN_EXE_synapse"));
    let run = command.args(["nack", "s", "g", &id, "--dead-letter", &reason, "--url", &url]).output();
    let run = run.expect("it runs");
    assert!(!run.status.success());
    String::from_utf8_lossy(&run.stderr).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_reason_is_refused_on_every_surface() {
    let small = |settings: &mut synapse::server::settings::Settings| {
        (settings.segment_bytes, settings.event_bytes_max, settings.publish_bytes_max) =
            (128 << 10, 16 << 10, 32 << 10);
    };
    let server = Server::start_with(small).await;
    server.group("s", "g", v1::GroupSettings::default()).await;
    let ids = server.fill("s", 0..3).await;
    server.pull("c", 3).await;

    let status = failed("a long reason", server.consumers().nack(nack(&ids, LONG)).await);
    assert_refused("nack", &status, Code::InvalidArgument, "INVALID_ARGUMENT", "action.dead_letter.reason");
    let id = format!("{}-{}", ids[0].ms, ids[0].seq);
    let body = |bytes: usize| {
        let reason = "x".repeat(bytes);
        format!(r#"{{"ids":["{id}"],"action":{{"dead_letter":{{"reason":"{reason}"}}}}}}"#)
    };
    // The first is a larger body than the server takes at all.
    let answer = post(&server, "/streams/s/groups/g/nack", &body(LONG));
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{}", &answer[..200.min(answer.len())]);
    let answer = post(&server, "/streams/s/groups/g/nack", &body(LONG_ARGUMENT / 8));
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    assert!(answer.contains("action.dead_letter.reason") && answer.contains("at most 1024 are allowed"), "{answer}");
    let told = run_nack(&server, &ids[0], LONG_ARGUMENT);
    assert!(told.contains("INVALID_ARGUMENT") && told.contains("at most 1024 are allowed"), "{told}");

    let info = server.group_info("s", "g").await;
    assert_eq!((info.pending, info.dead_lettered), (3, 0), "nothing changed");
    assert_eq!(server.fill("s", 3..5).await.len(), 2, "the engine goes on");
    let settled = server.consumers().nack(nack(&ids, 1024)).await.expect("as long as allowed").into_inner();
    assert_eq!(settled.done, 3);
}
