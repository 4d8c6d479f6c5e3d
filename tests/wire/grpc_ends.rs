//! How a consume session ends, and whether that counts as a failure of what it held: a drain, a half-close and a stop of
//! the server do not, everything else does.
//!
//! `SYNAPSE_SESSION_ENDS` says how often each way is gone; 25 is the long form, which has a silent peer, too.

use std::sync::Arc;
use std::time::{Duration, Instant};

use synapse::proto::v1;
use synapse::proto::v1::consume_request::Request;
use synapse::proto::v1::consume_response::Response;
use synapse::proto::v1::consumer_service_client::ConsumerServiceClient;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::Endpoint;

use crate::grpc::{PATIENCE, Server, next};

/// How a client goes away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Drain,
    HalfClose,
    HalfCloseAndGone,
    Cancel,
    Deadline,
    Mistake,
    /// As the kernel closes the socket of a killed process that has read everything.
    Closed,
    /// As it does where something was unread.
    ConnectionReset,
    StreamReset,
    GoAway,
    Silent,
}

impl Way {
    fn fails(self) -> bool {
        !matches!(self, Self::Drain | Self::HalfClose | Self::HalfCloseAndGone)
    }
}

/// What stands between the client and the server: it ends the connection as it is told.
struct Between {
    url: String,
    end: Arc<Notify>,
}

impl Between {
    async fn new(server: &Server, way: Way) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        let (to, end) = (server.running.addr(), Arc::new(Notify::new()));
        let told = Arc::clone(&end);
        tokio::spawn(async move {
            let (client, _) = listener.accept().await.expect("a client");
            let server = TcpStream::connect(to).await.expect("a server");
            carry(client, server, &told, way).await;
        });
        Self { url, end }
    }
}

async fn carry(mut client: TcpStream, mut server: TcpStream, told: &Notify, way: Way) {
    tokio::select! {
        _ = tokio::io::copy_bidirectional(&mut client, &mut server) => return,
        () = told.notified() => {}
    }
    match way {
        Way::ConnectionReset => server.set_zero_linger().expect("a socket"),
        // The client is quiet at this moment, so that a frame begins here. The call is the first of its connection.
        Way::StreamReset => server.write_all(&[0, 0, 4, 3, 0, 0, 0, 0, 1, 0, 0, 0, 2]).await.expect("sent"),
        Way::GoAway => {
            server.write_all(&[0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]).await.expect("sent");
        }
        Way::Silent => {
            // Nothing is said until the server gives up.
            let mut heard = [0; 1024];
            while server.read(&mut heard).await.is_ok_and(|read| read > 0) {}
        }
        _ => {}
    }
    if way == Way::StreamReset {
        // The connection goes on.
        let mut heard = [0; 1024];
        let _ = tokio::time::timeout(Duration::from_secs(5), server.read(&mut heard)).await;
    }
}

/// An open session that holds the one entry.
struct Holding {
    requests: mpsc::Sender<v1::ConsumeRequest>,
    answers: Streaming<v1::ConsumeResponse>,
}

async fn hold(url: &str, deadline: Option<Duration>) -> Holding {
    let channel = Endpoint::from_shared(url.to_owned()).expect("a url").connect().await.expect("it listens");
    let (requests, receiver) = mpsc::channel(8);
    let open = v1::ConsumeOpen { stream: "s".into(), group: "g".into(), consumer: "c".into(), ..Default::default() };
    requests.send(v1::ConsumeRequest { request: Some(Request::Open(open)) }).await.expect("room");
    let mut call = tonic::Request::new(ReceiverStream::new(receiver));
    if let Some(deadline) = deadline {
        call.set_timeout(deadline);
    }
    let mut answers = ConsumerServiceClient::new(channel).consume(call).await.expect("a session").into_inner();
    loop {
        match next(&mut answers).await.expect("it lives").and_then(|answer| answer.response) {
            Some(Response::Batch(batch)) => {
                assert_eq!(batch.events.len(), 1);
                return Holding { requests, answers };
            }
            Some(_) => {}
            None => panic!("it ended"),
        }
    }
}

/// Goes that way; answers what is kept of the client until that is noticed.
async fn go(server: &Server, way: Way) -> Option<Holding> {
    let between = Between::new(server, way).await;
    let deadline = (way == Way::Deadline).then(|| Duration::from_millis(700));
    let mut holding = hold(&between.url, deadline).await;
    let ask = |request| v1::ConsumeRequest { request };
    match way {
        Way::Drain => {
            holding.requests.send(ask(Some(Request::Drain(v1::ConsumeDrain {})))).await.expect("it lives");
            while next(&mut holding.answers).await.expect("it ends well").is_some() {}
        }
        Way::HalfClose => {
            drop(holding.requests);
            while next(&mut holding.answers).await.expect("it ends well").is_some() {}
            return None;
        }
        Way::HalfCloseAndGone => {
            drop(holding.requests);
            // The one is to be sent before the other.
            tokio::time::sleep(Duration::from_millis(20)).await;
            return None;
        }
        Way::Cancel => {
            drop(holding.answers);
            return None;
        }
        Way::Deadline => {
            // Clients cancel a call whose deadline has passed; this one looks after that itself once a call has begun.
            let answers = async { while next(&mut holding.answers).await.is_ok_and(|answer| answer.is_some()) {} };
            tokio::time::timeout(Duration::from_millis(700), answers).await.expect_err("it goes on till then");
            drop(holding.answers);
            return None;
        }
        Way::Mistake => {
            holding.requests.send(ask(None)).await.expect("it lives");
            next(&mut holding.answers).await.expect_err("a mistake ends a session");
        }
        Way::Closed | Way::ConnectionReset | Way::StreamReset | Way::GoAway | Way::Silent => {
            tokio::time::sleep(Duration::from_millis(20)).await;
            between.end.notify_one();
        }
    }
    Some(holding)
}

/// Deliveries and failures of the one entry, once nobody holds it.
async fn given_back(server: &Server, way: Way) -> (u32, u32) {
    // A silent peer is noticed late.
    let until = Instant::now() + if way == Way::Silent { 4 * PATIENCE } else { PATIENCE };
    loop {
        let request = v1::ListPendingRequest { stream: "s".into(), group: "g".into(), ..Default::default() };
        let listed = server.consumers().list_pending(request).await.expect("listed").into_inner();
        if let [entry] = &listed.entries[..]
            && entry.consumer.is_empty()
        {
            return (entry.deliveries, entry.failures);
        }
        assert!(Instant::now() < until, "{way:?}: it is still held: {listed:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn rounds() -> u32 {
    std::env::var("SYNAPSE_SESSION_ENDS").ok().and_then(|text| text.parse().ok()).unwrap_or(1)
}

fn settings() -> v1::GroupSettings {
    let ack_wait = Some(prost_types::Duration { seconds: 3600, nanos: 0 });
    v1::GroupSettings { ack_wait, max_deliveries: 1000, ..Default::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_end_but_those_that_were_meant_counts_as_a_failure() {
    let rounds = rounds();
    let mut ways = vec![
        Way::Drain,
        Way::HalfClose,
        Way::HalfCloseAndGone,
        Way::Cancel,
        Way::Deadline,
        Way::Mistake,
        Way::Closed,
        Way::ConnectionReset,
        Way::StreamReset,
        Way::GoAway,
    ];
    if rounds >= 25 {
        ways.push(Way::Silent);
    }
    for way in ways {
        let server = Server::start().await;
        server.group("s", "g", settings()).await;
        server.fill("s", 0..1).await;
        for round in 1..=if way == Way::Silent { 1 } else { rounds } {
            let client = go(&server, way).await;
            let failures = if way.fails() { round } else { 0 };
            assert_eq!(given_back(&server, way).await, (round, failures), "{way:?}, round {round}");
            drop(client);
        }
    }
}
