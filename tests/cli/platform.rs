//! The platform's day in small: Helox and the platform's services publish a thousand events a second each, over gRPC,
//! HTTP and the command line, in the shapes that they use; its consumer groups take them over gRPC, HTTP pull and
//! live views. Nothing is lost, nothing comes twice without a reason, order holds, every consumer keeps up.
//!
//! Five seconds as a test. The full run, with its latencies on the screen:
//! `PLATFORM_SECONDS=60 cargo test --release --test cli platform -- --nocapture`.

use std::collections::{BTreeMap, HashMap};
use std::io::Write;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use synapse::proto::v1::consumer_service_client::ConsumerServiceClient;
use synapse::proto::v1::event_service_client::EventServiceClient;
use synapse::proto::v1::{self, consume_request::Request, consume_response::Response};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::http_client::{Connection, Live};
use crate::process::{Server, synapse};

/// Who consumes what, and how. The groups are the platform's own.
const CONSUMERS: [(&str, &str, By); 10] = [
    ("training-events", "analytics-service", By::Consume),
    ("training-events", "realtime-gateway", By::Live),
    ("model-events", "cyrex", By::Consume),
    ("inference-events", "analytics-service", By::Consume),
    ("inference-events", "notification-service", By::Pull),
    ("inference-events", "challenge-service", By::Consume),
    ("inference-events", "realtime-gateway", By::Live),
    ("platform-events", "notification-service", By::Pull),
    ("platform-events", "realtime-gateway", By::Live),
    ("platform-events", "analytics-service", By::Consume),
];

#[derive(Clone, Copy, PartialEq)]
enum By {
    Consume,
    Pull,
    Live,
}

/// Events that were acknowledged to publishers or came to consumers, as one client saw them.
type Seen = Vec<Event>;

/// One event as a consumer got it.
struct Event {
    /// Who published it.
    publisher: String,
    /// Its number there.
    number: u64,
    latency_us: u64,
    deliveries: u32,
}

/// What everybody in the run shares.
struct Run {
    url: String,
    address: String,
    started: Instant,
    duration: Duration,
    /// Consumers end when this is set and nothing comes any more.
    published_all: AtomicBool,
    /// Events acknowledged, by stream and publisher.
    published: Mutex<BTreeMap<(&'static str, String), u64>>,
    received: Mutex<HashMap<(&'static str, &'static str), Seen>>,
}

impl Run {
    fn now_us(&self) -> u64 {
        self.started.elapsed().as_micros() as u64
    }

    fn acknowledged(&self, stream: &'static str, publisher: &str, events: u64) {
        *self.published.lock().expect("no panic").entry((stream, publisher.to_owned())).or_default() += events;
    }

    fn got(&self, stream: &'static str, consumer: &'static str, data: &Value, deliveries: u32) {
        let (publisher, number) = data["event_id"].as_str().and_then(|id| id.rsplit_once('#')).expect("an id of ours");
        let event = Event {
            publisher: publisher.to_owned(),
            number: number.parse().expect("a number"),
            latency_us: self.now_us().saturating_sub(data["sent_us"].as_u64().expect("a time")),
            deliveries,
        };
        self.received.lock().expect("no panic").entry((stream, consumer)).or_default().push(event);
    }

    fn has_all(&self, stream: &'static str, consumer: &'static str) -> bool {
        let published = self.published.lock().expect("no panic");
        let all: u64 = published.iter().filter(|((s, _), _)| *s == stream).map(|(_, n)| n).sum();
        let received = self.received.lock().expect("no panic");
        received.get(&(stream, consumer)).map_or(0, Vec::len) as u64 >= all
    }

    /// Whether a consumer may end: everything is published and it has it all, or it waited long enough.
    fn is_over(&self, stream: &'static str, consumer: &'static str) -> bool {
        let patience = self.started.elapsed() > self.duration + Duration::from_secs(30);
        patience || (self.published_all.load(Ordering::SeqCst) && self.has_all(stream, consumer))
    }

    /// Calls `publish` with the numbers that are due, `per_s` a second, until time is up.
    fn paced(&self, per_s: u64, mut publish: impl FnMut(std::ops::Range<u64>)) {
        let mut next = 0;
        while self.started.elapsed() < self.duration {
            let due = (self.started.elapsed().as_secs_f64() * per_s as f64) as u64;
            if due > next {
                publish(next..due);
                next = due;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Helox's shape: flat, as its Python client sends it.
    fn flat(&self, publisher: &str, number: u64) -> String {
        json!({
            "event": "training-progress", "event_id": format!("{publisher}#{number}"), "model_name": "deepiri-7b",
            "step": number.to_string(), "epoch": "1", "loss": "0.41", "learning_rate": "0.0003",
            "timestamp": "2026-01-31T12:00:00Z", "sent_us": self.now_us(),
        })
        .to_string()
    }

    /// The services' shape: enveloped, as their TypeScript client sends it.
    fn enveloped(&self, publisher: &str, number: u64, event: &str) -> String {
        json!({
            "event": event, "event_id": format!("{publisher}#{number}"), "timestamp": 1_790_000_000_000_u64 + number,
            "source": publisher, "service": publisher, "action": event, "sent_us": self.now_us(),
            "data": { "taskId": format!("t-{number}"), "userId": format!("u-{}", number % 97) },
        })
        .to_string()
    }
}

/// Publishes over a gRPC publish stream, an event a message.
async fn publish_grpc(run: Arc<Run>, stream: &'static str, publisher: &'static str, per_s: u64) {
    let (sender, receiver) = mpsc::channel(1_024);
    let paced = Arc::clone(&run);
    let pacing = std::thread::spawn(move || {
        paced.paced(per_s, |due| {
            for number in due {
                let data = match stream {
                    "training-events" => paced.flat(publisher, number),
                    _ => paced.enveloped(publisher, number, "inference-complete"),
                };
                let event = v1::Event { source: publisher.into(), data: data.into(), ..Default::default() };
                let publish = v1::PublishRequest { stream: stream.into(), events: vec![event], ..Default::default() };
                let request = v1::PublishStreamRequest { seq: number, publish: Some(publish) };
                sender.blocking_send(request).expect("the stream takes it");
            }
        });
    });
    let mut client = EventServiceClient::connect(run.url.clone()).await.expect("it listens");
    let answers = client.publish_stream(ReceiverStream::new(receiver)).await.expect("a stream");
    let mut answers = answers.into_inner();
    let mut expected = 0;
    while let Some(answer) = answers.message().await.expect("an answer") {
        assert_eq!(answer.seq, expected, "answers come in order");
        let published = matches!(answer.result, Some(v1::publish_stream_response::Result::Published(_)));
        assert!(published, "{answer:?}");
        run.acknowledged(stream, publisher, 1);
        expected += 1;
    }
    pacing.join().expect("the pace was kept");
}

/// Publishes over HTTP, a request an event.
fn publish_http(run: &Run, stream: &'static str, publisher: &str, per_s: u64) {
    let mut connection = Connection::open(&run.address);
    run.paced(per_s, |due| {
        for number in due {
            let event = match stream {
                "model-events" => run.flat(publisher, number),
                _ => run.enveloped(publisher, number, "task-created"),
            };
            let (status, body) = connection.post(&format!("/events/{stream}"), &event);
            assert_eq!(status, 201, "{body}");
            run.acknowledged(stream, publisher, 1);
        }
    });
}

/// Publishes over the command line: `synapse publish STREAM -`, fed as events come.
fn publish_cli(run: &Run, stream: &'static str, publisher: &str, per_s: u64) {
    let mut child = synapse()
        .args(["publish", stream, "-", "--url", &run.url])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut input = child.stdin.take().expect("piped");
    let output = std::thread::spawn(move || child.wait_with_output().expect("it ends"));
    run.paced(per_s, |due| {
        let lines: String = due.map(|number| run.flat(publisher, number) + "\n").collect();
        input.write_all(lines.as_bytes()).expect("it reads");
    });
    drop(input);
    let output = output.join().expect("it ended");
    assert!(output.status.success(), "publish failed");
    run.acknowledged(stream, publisher, output.stdout.split(|b| *b == b'\n').filter(|l| !l.is_empty()).count() as u64);
}

/// Consumes within a session, acknowledging every batch.
async fn consume(run: Arc<Run>, stream: &'static str, group: &'static str) {
    let (requests, receiver) = mpsc::channel(64);
    let open =
        v1::ConsumeOpen { stream: stream.into(), group: group.into(), consumer: "c-1".into(), ..Default::default() };
    let request = |request| v1::ConsumeRequest { request: Some(request) };
    requests.send(request(Request::Open(open))).await.expect("room");
    let mut client = ConsumerServiceClient::connect(run.url.clone()).await.expect("it listens");
    let responses = client.consume(ReceiverStream::new(receiver)).await.expect("a session");
    let mut responses = responses.into_inner();
    while !run.is_over(stream, group) {
        let waiting = tokio::time::timeout(Duration::from_millis(200), responses.message()).await;
        let Ok(message) = waiting else { continue };
        match message.expect("the session lives").and_then(|m| m.response) {
            Some(Response::Batch(batch)) => {
                let mut ids = Vec::new();
                for delivered in &batch.events {
                    let recorded = delivered.event.as_ref().expect("an entry");
                    let event = recorded.event.as_ref().expect("an event");
                    let data = serde_json::from_slice(&event.data).expect("JSON as sent");
                    run.got(stream, group, &data, delivered.deliveries);
                    ids.push(v1::IdRange { first: recorded.id, last: None });
                }
                let ack = v1::ConsumeAck { seq: 0, ids, publish: Vec::new() };
                requests.send(request(Request::Ack(ack))).await.expect("the session lives");
            }
            Some(Response::AckResult(result)) => {
                assert!(result.error.is_none() && result.not_owned.is_empty(), "{result:?}");
            }
            _ => {}
        }
    }
    requests.send(request(Request::Drain(v1::ConsumeDrain {}))).await.expect("the session lives");
    while responses.message().await.expect("the session ends well").is_some() {}
}

/// Pulls and acknowledges over HTTP.
fn pull(run: &Run, stream: &'static str, group: &'static str) {
    let mut connection = Connection::open(&run.address);
    let path = format!("/streams/{stream}/groups/{group}");
    while !run.is_over(stream, group) {
        let ask = json!({ "consumer": "c-1", "entries_max": 500, "wait": "200ms" }).to_string();
        let (status, body) = connection.post(&format!("{path}/pull"), &ask);
        assert_eq!(status, 200, "{body}");
        let delivery: Value = serde_json::from_str(&body).expect("JSON");
        let events = delivery["events"].as_array().expect("a list");
        if events.is_empty() {
            continue;
        }
        for event in events {
            run.got(stream, group, &event["event"], event["deliveries"].as_u64().expect("a count") as u32);
        }
        let ids: Vec<&Value> = events.iter().map(|e| &e["id"]).collect();
        let ack = json!({ "delivery_token": delivery["delivery_token"], "ids": ids }).to_string();
        let (status, body) = connection.post(&format!("{path}/ack"), &ack);
        assert_eq!(status, 200, "{body}");
        let settled: Value = serde_json::from_str(&body).expect("JSON");
        assert_eq!(settled["done"], events.len(), "{body}");
    }
}

/// Follows a live view.
fn live(run: &Run, stream: &'static str, consumer: &'static str) {
    let mut view = Live::open(&run.address, &format!("/streams/{stream}/live?from=earliest"));
    while !run.is_over(stream, consumer) {
        for data in view.next(Duration::from_millis(200)) {
            let data: Value = serde_json::from_str(&data).expect("JSON");
            assert!(data["_id"].is_string(), "a live view without gaps: {data}");
            run.got(stream, consumer, &data, 1);
        }
    }
}

/// Watches the groups' lag while everything runs; answers the greatest, by stream and group.
async fn watch_lag(run: Arc<Run>) -> BTreeMap<String, u64> {
    let mut client = ConsumerServiceClient::connect(run.url.clone()).await.expect("it listens");
    let mut greatest = BTreeMap::new();
    while !run.published_all.load(Ordering::SeqCst) {
        for stream in ["training-events", "inference-events", "platform-events", "model-events"] {
            let request = v1::ListGroupsRequest { stream: stream.into() };
            for group in client.list_groups(request).await.expect("listed").into_inner().groups {
                let seen: &mut u64 = greatest.entry(format!("{stream} {}", group.name)).or_default();
                *seen = (*seen).max(group.undelivered + group.pending);
            }
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    greatest
}

#[test]
fn the_platforms_events_reach_everybody_in_time() {
    let seconds = std::env::var("PLATFORM_SECONDS").ok().and_then(|s| s.parse().ok()).unwrap_or(5);
    let server = Server::start();
    for (stream, group, by) in CONSUMERS {
        if by != By::Live {
            server.run(&["groups", "create", stream, group]).ok();
        }
    }
    let run = Arc::new(Run {
        url: server.url.clone(),
        address: server.address().to_owned(),
        started: Instant::now(),
        duration: Duration::from_secs(seconds),
        published_all: AtomicBool::new(false),
        published: Mutex::default(),
        received: Mutex::default(),
    });
    let greatest_lag = play(&run);
    check_and_print(&run, &greatest_lag);
    // Everything is acknowledged: nothing is left, and nothing waits to come again.
    for (stream, group, by) in CONSUMERS {
        if by != By::Live {
            let out = server.run(&["groups", "info", stream, group, "--json"]).ok();
            let info: Value = serde_json::from_str(&out).expect("JSON");
            assert_eq!((&info["undelivered"], &info["pending"]), (&json!(0), &json!(0)), "{out}");
        }
    }
}

/// Lets everybody publish and consume, to the end.
fn play(run: &Arc<Run>) -> BTreeMap<String, u64> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    let consuming: Vec<_> = CONSUMERS
        .iter()
        .filter(|(_, _, by)| *by == By::Consume)
        .map(|(stream, group, _)| runtime.spawn(consume(Arc::clone(run), stream, group)))
        .collect();
    let watching = runtime.spawn(watch_lag(Arc::clone(run)));
    std::thread::scope(|scope| {
        for (stream, consumer, by) in CONSUMERS {
            match by {
                By::Pull => drop(scope.spawn(move || pull(run, stream, consumer))),
                By::Live => drop(scope.spawn(move || live(run, stream, consumer))),
                By::Consume => {}
            }
        }
        let publishing = [
            runtime.spawn(publish_grpc(Arc::clone(run), "training-events", "helox-grpc", 600)),
            runtime.spawn(publish_grpc(Arc::clone(run), "inference-events", "cyrex", 500)),
        ];
        let threads = [
            scope.spawn(|| publish_cli(run, "training-events", "helox-cli", 300)),
            scope.spawn(|| publish_http(run, "model-events", "helox-http", 100)),
            scope.spawn(|| publish_http(run, "platform-events", "task-orchestrator", 200)),
            scope.spawn(|| publish_http(run, "platform-events", "auth", 150)),
            scope.spawn(|| publish_http(run, "platform-events", "engagement", 150)),
        ];
        for thread in threads {
            thread.join().expect("published");
        }
        for task in publishing {
            runtime.block_on(task).expect("published");
        }
        run.published_all.store(true, Ordering::SeqCst);
    });
    for task in consuming {
        runtime.block_on(task).expect("consumed");
    }
    runtime.block_on(watching).expect("watched")
}

fn check_and_print(run: &Run, greatest_lag: &BTreeMap<String, u64>) {
    let published = run.published.lock().expect("no panic");
    let mut received = run.received.lock().expect("no panic");
    let total: u64 = published.values().sum();
    let least = 2_000 * run.duration.as_secs() * 9 / 10;
    assert!(total >= least, "publishers did not keep their rate: {total} events, {least} at least");
    println!("{total} events in {} s", run.duration.as_secs());
    for (stream, consumer, _) in CONSUMERS {
        let seen = received.get_mut(&(stream, consumer)).unwrap_or_else(|| panic!("{stream} {consumer}: nothing"));
        for ((_, publisher), count) in published.iter().filter(|((s, _), _)| *s == stream) {
            let place = format!("{stream} {consumer} from {publisher}");
            let first: Vec<u64> =
                seen.iter().filter(|e| e.publisher == *publisher && e.deliveries == 1).map(|e| e.number).collect();
            assert!(first.is_sorted(), "{place}: out of order");
            assert!(first.iter().copied().eq(0..*count), "{place}: {} of {count} came once", first.len());
        }
        let again = seen.iter().filter(|e| e.deliveries > 1).count();
        let mut latency: Vec<u64> = seen.iter().map(|e| e.latency_us).collect();
        latency.sort_unstable();
        let at = |quantile: f64| latency[((latency.len() - 1) as f64 * quantile) as usize];
        let lag = greatest_lag.get(&format!("{stream} {consumer}")).copied().unwrap_or_default();
        println!(
            "{stream:17} {consumer:21} {:7} events, {again} again, lag at most {lag:4}, us: p50 {:6} p99 {:6} max {:6}",
            seen.len(),
            at(0.5),
            at(0.99),
            at(1.0),
        );
        // A consumer that keeps up is never behind by more than what comes in two seconds.
        assert!(lag <= 4_000, "{stream} {consumer}: {lag} events behind");
    }
}
