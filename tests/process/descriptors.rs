//! Few file descriptors: connections beyond what they allow are refused, the log has its own, and all goes on once there
//! are some again.

use std::io::{ErrorKind, Read};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, prlimit};

use crate::server::{FLAGS, Server};
use crate::surfaces::{DONE, PUBLISHES, Surfaces};
use crate::world::World;

fn limit(server: &Server, descriptors: u64) {
    let limit = Rlimit { current: Some(descriptors), maximum: Some(4096) };
    prlimit(Some(Pid::from_child(&server.child)), Resource::Nofile, limit).expect("it may be lowered and raised");
}

fn descriptors(server: &Server) -> u64 {
    std::fs::read_dir(format!("/proc/{}/fd", server.child.id())).expect("it runs").count() as u64
}

/// What the process has used of processors, in hundredths of a second.
pub(crate) fn busy(server: &Server) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", server.child.id())).expect("it runs");
    let after_name = stat.rsplit_once(')').expect("a name").1;
    after_name.split_whitespace().skip(11).take(2).map(|field| field.parse::<u64>().expect("a number")).sum()
}

#[test]
fn connections_beyond_the_descriptors_are_refused_and_the_log_goes_on() {
    let world = World::new();
    let mut command = std::process::Command::new("bash");
    command.args(["-c", "ulimit -n 96 && exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_synapse")]);
    command.args(["serve", "--listen", "127.0.0.1:0", "--data-dir"]).arg(&world.data_dir).args(FLAGS);
    command.stdout(std::process::Stdio::piped());
    let server = Server::spawn(command);
    let address = server.url.strip_prefix("http://").expect("plain").to_owned();
    world.runtime.block_on(async {
        world.prepare(&server).await;
        let surfaces = Surfaces::of(&server.url).await;
        let (mut publishers, mut consumers) = world.load(&server).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        let held: Vec<TcpStream> = (0..200).map(|_| TcpStream::connect(&address).expect("it listens")).collect();
        tokio::time::sleep(Duration::from_millis(300)).await;
        let open = held.iter().filter_map(|stream| is_open(stream).then_some(())).count();
        assert!((10..96).contains(&open), "{open} are open");
        let since = world.recorder.history.lock().publishes.len();
        // Files are begun, read and given up meanwhile.
        for _ in 0..50 {
            let count = descriptors(&server);
            assert!(count < 96, "the log has some left: {count}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert!(world.recorder.history.lock().publishes.len() > since + 10, "the log goes on");
        let ended = publishers.try_join_next().or_else(|| consumers.try_join_next());
        assert!(ended.is_none(), "for everyone there: {ended:?}");
        publishers.shutdown().await;
        consumers.shutdown().await;
        let before = busy(&server);
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(busy(&server) - before < 50, "it does not spin");
        drop(held);
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_eq!(surfaces.publish("work", 10).await, [DONE; 3]);
    });
    server.kill();
}

fn is_open(mut stream: &TcpStream) -> bool {
    stream.set_nonblocking(true).expect("set");
    matches!(stream.read(&mut [0; 1]), Err(error) if error.kind() == ErrorKind::WouldBlock)
}

#[test]
fn without_any_descriptor_publishes_are_refused_only_until_there_are_some() {
    let world = World::new();
    let server = Server::start(&world.data_dir);
    world.runtime.block_on(async {
        let surfaces = Surfaces::of(&server.url).await;
        assert_eq!(surfaces.publish("work", 10).await, [DONE; 3]);
        limit(&server, descriptors(&server) - 1);
        // Over the connection that is there: others cannot be taken.
        let refused = async { while surfaces.publish_unary("work", 100_000).await == DONE {} };
        tokio::time::timeout(Duration::from_secs(20), refused).await.expect("room ends where no file can be made");
        assert_eq!(surfaces.publish_unary("work", 100_000).await, "STORAGE_FULL");
        limit(&server, 4096);
        let since = Instant::now();
        while surfaces.publish("work", 100_000).await != [DONE; 3] {
            assert!(since.elapsed() < Duration::from_secs(5), "publishing goes on");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        for _ in 0..10 {
            for (surface, outcome) in PUBLISHES.iter().zip(surfaces.publish("work", 100_000).await) {
                assert_eq!(outcome, DONE, "{surface}");
            }
        }
    });
    server.terminate();
}
