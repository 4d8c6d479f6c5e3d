//! `synapse bench publish`: unary calls, or publish streams.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use futures::Stream;
use parking_lot::Mutex;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tonic::Request;
use tonic::client::Grpc;
use tonic::transport::Channel;

use super::codec::{EncodedCodec, EncodedPublish, Numbered};
use super::load::{PUBLISH, PUBLISH_STREAM, Publishes};
use super::report::{Tally, print};
use super::{Load, load, pace};
use crate::cli::client::{Connect, refused};
use crate::cli::progress::Progress;
use crate::proto::v1::{PublishResponse, PublishStreamResponse, publish_stream_response};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// How to publish: a call a request, or a stream of requests.
    #[arg(long, value_enum, default_value_t = Mode::Stream)]
    mode: Mode,
    /// Requests of one client that may be unanswered. 0 in stream mode: as many as flow control lets; in unary mode 1.
    #[arg(long, default_value_t = 0, value_name = "N")]
    in_flight: usize,
    /// Streams to publish to, one a request: the stream's name with -0, -1 and so on behind it where there are several.
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    streams: u32,
    #[command(flatten)]
    load: Load,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Mode {
    /// One call a request.
    Unary,
    /// Requests one after the other on a stream, without waiting for each answer.
    Stream,
}

pub(super) async fn run(args: Args) -> anyhow::Result<()> {
    args.load.validate()?;
    let channels = load::channels(&args.load).await?;
    let publishes = Publishes::new(&args.load, args.streams as usize);
    let started = Instant::now();
    let progress = Progress::lasting("measuring", args.load.duration());
    let mut clients = JoinSet::new();
    for number in 0..args.load.clients {
        let grpc = load::client(&channels, number);
        let client = Client {
            grpc,
            connect: args.load.connect.clone(),
            publishes: publishes.of_client(number),
            batch: args.load.batch as u64,
            in_flight: args.in_flight,
            requests: args.load.requests_max(),
            ends: started + args.load.duration(),
            due: args.load.interval().map(|interval| {
                // Clients take turns, as independent callers would: all at once would be bursts.
                let first = started + interval.mul_f64(number as f64 / args.load.clients as f64);
                pace::due_times(first, interval, args.load.requests_max(), args.load.duration())
            }),
        };
        match args.mode {
            Mode::Unary => clients.spawn(client.unary()),
            Mode::Stream => clients.spawn(client.stream()),
        };
    }
    let mut tally = Tally::default();
    while let Some(outcome) = clients.join_next().await {
        tally.add(outcome??);
    }
    let elapsed = started.elapsed();
    let case = if args.mode == Mode::Unary { "publish unary" } else { "publish stream" };
    drop(progress);
    print(&args.load, case, &tally, elapsed);
    match tally.first_error {
        Some(error) => anyhow::bail!("{} requests failed; the first: {error}", tally.errors),
        None => Ok(()),
    }
}

/// One caller, or one publish stream.
struct Client {
    grpc: Grpc<Channel>,
    connect: Connect,
    publishes: Publishes,
    batch: u64,
    in_flight: usize,
    requests: u64,
    ends: Instant,
    due: Option<mpsc::Receiver<Instant>>,
}

impl Client {
    /// Calls one after the other; with `in_flight`, so many callers at a time that share the client's due times.
    async fn unary(self) -> anyhow::Result<Tally> {
        let callers = self.in_flight.max(1);
        let due = self.due.map(|due| Arc::new(tokio::sync::Mutex::new(due)));
        let mut tasks = JoinSet::new();
        for caller in 0..callers as u64 {
            let share = self.requests / callers as u64 + u64::from(caller < self.requests % callers as u64);
            let caller = Caller {
                grpc: self.grpc.clone(),
                connect: self.connect.clone(),
                publishes: self.publishes.of_client(caller as usize),
                batch: self.batch,
            };
            tasks.spawn(caller.run(share, self.ends, due.clone()));
        }
        let mut tally = Tally::default();
        while let Some(outcome) = tasks.join_next().await {
            tally.add(outcome??);
        }
        Ok(tally)
    }

    /// A publish stream: requests go out as flow control lets, answers come back in their order.
    async fn stream(mut self) -> anyhow::Result<Tally> {
        let sent = Arc::new(Sent::new(self.in_flight));
        let requests = requests(
            Sending { sent: Arc::clone(&sent), publishes: self.publishes, seq: 0, due: self.due.take() },
            self.requests,
            self.ends,
        );
        let mut request = Request::new(requests);
        self.connect.sign(request.metadata_mut())?;
        self.grpc.ready().await?;
        let codec = EncodedCodec::<Numbered, PublishStreamResponse>::new();
        let mut answers = self.grpc.streaming(request, PUBLISH_STREAM, codec).await.map_err(refused)?.into_inner();
        let mut tally = Tally::default();
        while let Some(answer) = answers.message().await.map_err(refused)? {
            let since = sent.answered();
            match answer.result {
                Some(publish_stream_response::Result::Published(_)) => tally.done(self.batch, since.elapsed()),
                Some(publish_stream_response::Result::Error(error)) => {
                    tally.failed(format!("{}: {}", error.reason, error.message));
                }
                None => tally.failed("an answer without a result"),
            }
        }
        Ok(tally)
    }
}

struct Caller {
    grpc: Grpc<Channel>,
    connect: Connect,
    publishes: Publishes,
    batch: u64,
}

type SharedDue = Arc<tokio::sync::Mutex<mpsc::Receiver<Instant>>>;

impl Caller {
    async fn run(mut self, requests: u64, ends: Instant, due: Option<SharedDue>) -> anyhow::Result<Tally> {
        let mut tally = Tally::default();
        for _ in 0..requests {
            let since = match &due {
                Some(due) => match due.lock().await.recv().await {
                    Some(due) => due,
                    None => break,
                },
                None => Instant::now(),
            };
            if due.is_none() && since >= ends {
                break;
            }
            match self.call().await {
                Ok(()) => tally.done(self.batch, since.elapsed()),
                Err(error) => tally.failed(error),
            }
        }
        Ok(tally)
    }

    async fn call(&mut self) -> anyhow::Result<()> {
        let mut request = Request::new(self.publishes.next());
        self.connect.sign(request.metadata_mut())?;
        self.grpc.ready().await?;
        let codec = EncodedCodec::<EncodedPublish, PublishResponse>::new();
        self.grpc.unary(request, PUBLISH, codec).await.map_err(refused)?;
        Ok(())
    }
}

/// When the unanswered requests of a stream were due, in their order.
struct Sent {
    times: Mutex<VecDeque<Instant>>,
    room: Option<Semaphore>,
}

impl Sent {
    fn new(in_flight: usize) -> Self {
        Self { times: Mutex::default(), room: (in_flight > 0).then(|| Semaphore::new(in_flight)) }
    }

    /// Waits until another request may be unanswered.
    async fn room(&self) {
        if let Some(room) = &self.room
            && let Ok(permit) = room.acquire().await
        {
            permit.forget();
        }
    }

    /// The oldest request was answered; since when it was due.
    fn answered(&self) -> Instant {
        if let Some(room) = &self.room {
            room.add_permits(1);
        }
        self.times.lock().pop_front().unwrap_or_else(Instant::now)
    }
}

struct Sending {
    sent: Arc<Sent>,
    publishes: Publishes,
    seq: u64,
    due: Option<mpsc::Receiver<Instant>>,
}

/// The requests of a publish stream. Made as they are pulled, so that no task has to be woken for each.
fn requests(sending: Sending, requests: u64, ends: Instant) -> impl Stream<Item = Numbered> + Send {
    futures::stream::unfold(sending, move |mut sending| async move {
        if sending.seq == requests {
            return None;
        }
        sending.sent.room().await;
        let since = match &mut sending.due {
            Some(due) => due.recv().await?,
            None => Some(Instant::now()).filter(|now| *now < ends)?,
        };
        sending.sent.times.lock().push_back(since);
        sending.seq += 1;
        let request = Numbered { seq: sending.seq, publish: sending.publishes.next() };
        Some((request, sending))
    })
}
