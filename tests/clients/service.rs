//! A service of the platform on redis-rs: publishes flat events, consumes as one of a group, and takes over what others
//! left. Goes on over restarts of the server.
//!
//!     service PORT NAME COUNT FOLDER
//!
//! Publishes COUNT events, notes in FOLDER/NAME what was acknowledged and what was consumed, and ends once FOLDER/stop is
//! there. Compiled by the tests in a package of its own.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, Instant};

use redis::streams::{
    StreamAutoClaimOptions, StreamAutoClaimReply, StreamId, StreamMaxlen, StreamReadOptions, StreamReadReply,
};
use redis::{Client, Commands, Connection, RedisResult};

const STREAMS: [&str; 2] = ["inference-events", "platform-events"];
const GROUP: &str = "analytics-service";

/// A connection, made anew where it broke, and the notes.
struct Service {
    client: Client,
    connection: Option<Connection>,
    name: String,
    folder: PathBuf,
    ledger: File,
}

impl Service {
    fn new(args: &[String]) -> Self {
        let client = Client::open(format!("redis://127.0.0.1:{}/", args[1])).expect("an address");
        let folder = PathBuf::from(&args[4]);
        let ledger = OpenOptions::new().create(true).append(true).open(folder.join(&args[2])).expect("a ledger");
        Self { client, connection: None, name: args[2].clone(), folder, ledger }
    }

    fn is_stopped(&self) -> bool {
        self.folder.join("stop").exists()
    }

    /// What the call answers, made again while there is no server.
    fn again<T>(&mut self, call: impl Fn(&mut Connection) -> RedisResult<T>) -> RedisResult<T> {
        let until = Instant::now() + Duration::from_secs(30);
        loop {
            let answer = match &mut self.connection {
                Some(connection) => call(connection),
                None => self.client.get_connection().and_then(|made| call(self.connection.insert(made))),
            };
            match answer {
                Err(error) if error.code() != Some("BUSYGROUP") && Instant::now() < until => {
                    eprintln!("{error}");
                    self.connection = None;
                    sleep(Duration::from_millis(100));
                }
                answer => return answer,
            }
        }
    }

    fn note(&mut self, line: String) {
        // At once: two threads write to the one file.
        self.ledger.write_all(format!("{line}\n").as_bytes()).expect("noted");
    }

    fn publish(&mut self, count: usize) {
        for n in 0..count {
            let (stream, request) = (STREAMS[n % 2], format!("{}-{n}", self.name));
            let fields = [("event", "training-progress"), ("request_id", &request), ("loss", "0.4"), ("step", "3")];
            let maxlen = StreamMaxlen::Approx(100_000);
            let id: String = self.again(|redis| redis.xadd_maxlen(stream, maxlen, "*", &fields)).expect("published");
            self.note(format!("published {stream} {id} {request}"));
            sleep(Duration::from_millis(5));
        }
    }

    fn handle(&mut self, stream: &str, entries: Vec<StreamId>) {
        for entry in entries {
            let request: String = entry.get("request_id").expect("every event has one");
            self.note(format!("consumed {stream} {} {request}", entry.id));
            let _: i64 = self.again(|redis| redis.xack(stream, GROUP, &[&entry.id])).expect("acknowledged");
        }
    }

    fn consume(&mut self) {
        let options = StreamReadOptions::default().group(GROUP, &self.name).count(10).block(300);
        let mut cursors = STREAMS.map(|_| "0-0".to_owned());
        while !self.is_stopped() {
            let found: Option<StreamReadReply> =
                self.again(|redis| redis.xread_options(&STREAMS, &[">", ">"], &options)).expect("read");
            found.into_iter().flat_map(|found| found.keys).for_each(|found| self.handle(&found.key, found.ids));
            let name = self.name.clone();
            for (stream, cursor) in STREAMS.iter().zip(&mut cursors) {
                let claimed: StreamAutoClaimReply = self
                    .again(|redis| {
                        redis.xautoclaim_options(
                            stream,
                            GROUP,
                            &name,
                            1000,
                            &*cursor,
                            StreamAutoClaimOptions::default().count(50),
                        )
                    })
                    .expect("claimed");
                *cursor = claimed.next_stream_id;
                self.handle(stream, claimed.claimed);
            }
        }
    }
}

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let mut service = Service::new(&args);
    for stream in STREAMS {
        let made: RedisResult<String> = service.again(|redis| redis.xgroup_create_mkstream(stream, GROUP, "0"));
        let is_there = made.as_ref().err().is_none_or(|error| error.code() == Some("BUSYGROUP"));
        assert!(is_there, "{made:?}");
    }
    let mut publisher = Service::new(&args);
    let count = args[3].parse().expect("a number");
    let publisher = std::thread::spawn(move || publisher.publish(count));
    service.consume();
    publisher.join().expect("published");
}
