//! A data directory, the servers that have it one after the other, and what their clients saw.

use std::path::PathBuf;
use std::time::Duration;

use tokio::task::JoinSet;
use tonic::Status;

use crate::clients::{Client, Recorder};
use crate::history;
use crate::server::Server;

const PUBLISHERS: u64 = 3;
const CONSUMERS: u64 = 3;

/// It goes with what is in it.
pub(crate) struct World {
    folder: tempfile::TempDir,
    pub(crate) data_dir: PathBuf,
    pub(crate) recorder: Recorder,
    pub(crate) runtime: tokio::runtime::Runtime,
}

impl World {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let data_dir = folder.path().join("data");
        Self { folder, data_dir, recorder: Recorder::new(), runtime: runtime.expect("a runtime") }
    }

    /// Where its data directory is.
    pub(crate) fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    /// Makes the streams and the group.
    pub(crate) async fn prepare(&self, server: &Server) {
        let mut first = Client::connect(&server.url, &self.recorder).await;
        first.create_group().await;
        first.create_churn().await;
    }

    /// Publishers and consumers that work until something fails, which they answer.
    pub(crate) async fn load(&self, server: &Server) -> (JoinSet<Status>, JoinSet<Status>) {
        let (mut publishers, mut consumers) = (JoinSet::new(), JoinSet::new());
        let client = async || Client::connect(&server.url, &self.recorder).await;
        publishers.spawn(client().await.churn());
        for n in 0..PUBLISHERS {
            publishers.spawn(client().await.publish_on(1 + 7 * n));
        }
        for n in 0..CONSUMERS {
            consumers.spawn(client().await.consume_on(format!("c{n}")));
        }
        (publishers, consumers)
    }

    /// Starts a server once more, empties the group, and judges everything that was recorded; says what that was.
    pub(crate) fn judge(&self) -> String {
        let server = Server::start(&self.data_dir);
        self.recorder.begin_run();
        self.runtime.block_on(async {
            let mut last = Client::connect(&server.url, &self.recorder).await;
            last.repeat_unanswered().await;
            last.read_all().await;
            last.drain().await;
            last.read_all().await;
        });
        server.terminate();
        let history = self.recorder.history.lock();
        let answered = history.publishes.iter().filter(|p| p.answer.is_some()).count();
        let (published, pulls, acknowledged) =
            (history.publishes.len(), history.pulls.len(), history.acknowledged.len());
        assert!(answered > 10 && acknowledged > 10, "there was load: {answered} and {acknowledged}");
        let violations = history::check(&history);
        assert!(
            violations.is_empty(),
            "{} violations: {:?}",
            violations.len(),
            &violations[..violations.len().min(20)]
        );
        format!("{answered} of {published} publishes answered, {pulls} pulls, {acknowledged} acknowledgements")
    }
}

/// Waits until all of them have ended.
pub(crate) async fn ended(mut clients: JoinSet<Status>) {
    let all = async {
        while let Some(ended) = clients.join_next().await {
            ended.expect("no panic");
        }
    };
    tokio::time::timeout(Duration::from_secs(20), all).await.expect("every call is answered");
}
