//! A real server, killed again and again under load: nothing that was acknowledged is lost, nothing comes from nowhere.
//!
//! 30 rounds, or `SYNAPSE_KILL_ROUNDS`. Killing a process does not lose what the system holds for the disk; what a power
//! loss takes is for the simulated disk to show.

#[path = "process/clients.rs"]
mod clients;
#[path = "history/mod.rs"]
mod history;
#[path = "process/server.rs"]
mod server;

use std::time::Duration;

use clients::{Client, Recorder};
use server::Server;

const PUBLISHERS: u64 = 3;
const CONSUMERS: u64 = 3;

#[test]
fn a_killed_server_keeps_every_promise() {
    let rounds = std::env::var("SYNAPSE_KILL_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(30);
    let folder = tempfile::tempdir().expect("a folder");
    let data_dir = folder.path().join("data");
    let recorder = Recorder::new();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    for round in 0..rounds {
        let server = Server::start(&data_dir);
        recorder.begin_run();
        runtime.block_on(async {
            let mut clients = tokio::task::JoinSet::new();
            let mut first = Client::connect(&server.url, &recorder).await;
            if round == 0 {
                first.create_group().await;
                first.create_churn().await;
            }
            first.repeat_unanswered().await;
            first.read_all().await;
            clients.spawn(Client::connect(&server.url, &recorder).await.churn());
            for n in 0..PUBLISHERS {
                clients.spawn(Client::connect(&server.url, &recorder).await.publish_on(1 + 7 * n));
            }
            for n in 0..CONSUMERS {
                clients.spawn(Client::connect(&server.url, &recorder).await.consume_on(format!("c{n}")));
            }
            // Any moment will do, and none is the same twice.
            tokio::time::sleep(Duration::from_micros(50_000 + getrandom::u64().expect("a number") % 500_000)).await;
            server.kill();
            while let Some(ended) = clients.join_next().await {
                ended.expect("clients end when their server does");
            }
        });
    }
    let server = Server::start(&data_dir);
    recorder.begin_run();
    runtime.block_on(async {
        let mut last = Client::connect(&server.url, &recorder).await;
        last.repeat_unanswered().await;
        last.read_all().await;
        last.drain().await;
        last.read_all().await;
    });
    server.terminate();
    let names = std::fs::read_dir(data_dir.join("log")).expect("listed").flatten();
    let snapshot = names.into_iter().any(|file| file.file_name().to_string_lossy().starts_with("snapshot-"));
    assert!(snapshot || rounds < 30, "files were given up in between");
    let history = recorder.history.lock();
    let answered = history.publishes.iter().filter(|p| p.answer.is_some()).count();
    eprintln!(
        "{rounds} rounds: {answered} of {} publishes answered, {} pulls, {} acknowledgements",
        history.publishes.len(),
        history.pulls.len(),
        history.acknowledged.len()
    );
    assert!(answered as u64 > rounds && history.acknowledged.len() as u64 > rounds, "there was load");
    let violations = history::check(&history);
    assert!(violations.is_empty(), "{} violations: {:?}", violations.len(), &violations[..violations.len().min(20)]);
}
