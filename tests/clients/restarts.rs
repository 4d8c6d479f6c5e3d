//! Services of the platform on four clients of Redis publish and consume while the server is killed and stopped and
//! started again: every event that was acknowledged is consumed, also what a consumer held that died.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::server::Server;
use crate::tools::{or_skipped, redis_cli, run, source};
use crate::{node, python, redis_rs};

const STREAMS: [&str; 2] = ["inference-events", "platform-events"];
const GROUP: &str = "analytics-service";
const PATIENCE: Duration = Duration::from_secs(120);

/// A service: its name, the events that it publishes, its process.
struct Service {
    name: &'static str,
    count: usize,
    child: Child,
}

/// What one noted, as the keys of the events.
#[derive(Default)]
struct Noted {
    published: BTreeSet<String>,
    consumed: BTreeMap<String, usize>,
}

#[test]
fn services_lose_nothing_over_restarts() {
    let folder = tempfile::tempdir().expect("a folder");
    let data_dir = folder.path().join("data");
    let mut server = Server::start(&data_dir);
    let port = server.redis_port;
    let Some(mut services) = start_all(port, folder.path()) else { return };
    let parts = |part: usize| move |service: &Service, noted: &Noted| noted.published.len() * 4 >= service.count * part;

    wait_until(folder.path(), &mut services, "a quarter is published", parts(1));
    let held = hold_and_die(port);
    drop(server);
    let at_kill = all_noted(folder.path(), &services);
    std::thread::sleep(Duration::from_millis(300));
    server = Server::start_on(&data_dir, port);

    wait_until(folder.path(), &mut services, "the half is published", parts(2));
    server.terminate();
    server = Server::start_on(&data_dir, port);

    wait_until(folder.path(), &mut services, "all is published", parts(4));
    let done = wait_for_all_consumed(folder.path(), &mut services, port);
    for (service, (before, after)) in services.iter().zip(at_kill.iter().zip(&done)) {
        let goes_on = before.published.len() < after.published.len() && before.consumed.len() < after.consumed.len();
        assert!(goes_on && !before.consumed.is_empty(), "{} worked before and after the kill", service.name);
    }
    let consumed = |id: &String| done.iter().any(|noted| noted.consumed.keys().any(|key| key.contains(id)));
    assert!(held.iter().all(consumed), "what the dead consumer held was taken over: {held:?}");

    std::fs::write(folder.path().join("stop"), "").expect("written");
    for service in &mut services {
        let status = service.child.wait().expect("it ends");
        assert!(status.success(), "{}: {status}\n{}", service.name, said(folder.path(), service.name));
    }
    server.terminate();
}

/// Starts a service on each client; `None` where one is missing.
fn start_all(port: u16, folder: &Path) -> Option<Vec<Service>> {
    or_skipped(run(Command::new("redis-cli").arg("--version")))?;
    let (python, node, redis_rs) = (python::prepared()?, node::prepared()?, redis_rs::prepared()?);
    let ioredis = || {
        let mut command = Command::new("node");
        command.arg(source("service.js")).env("NODE_PATH", node);
        command
    };
    let commands: [(&'static str, usize, Command, &[&str]); 5] = [
        ("redis-asyncio", 800, python.command("service.py"), &[]),
        ("ioredis", 800, ioredis(), &["ioredis"]),
        ("ioredis-5", 800, ioredis(), &["ioredis-5"]),
        ("redis-rs", 800, redis_rs.service(), &[]),
        ("redis-cli", 150, Command::new(source("service.sh")), &[]),
    ];
    let start = |(name, count, mut command, further): (&'static str, usize, Command, &[&str])| {
        let log = File::create(folder.join(format!("{name}.log"))).expect("a file");
        command.args([&port.to_string(), name, &count.to_string()]).arg(folder).args(further);
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("a file")).stderr(log);
        let child = command.spawn().unwrap_or_else(|error| panic!("{name}: {error}"));
        Service { name, count, child }
    };
    Some(commands.into_iter().map(start).collect())
}

/// A consumer that reads and never acknowledges; the ids of what it got.
fn hold_and_die(port: u16) -> Vec<String> {
    let until = Instant::now() + PATIENCE;
    while Instant::now() < until {
        let read = ["XREADGROUP", "GROUP", GROUP, "dead", "COUNT", "20", "BLOCK", "1000", "STREAMS", STREAMS[0], ">"];
        let shown = redis_cli(port, &read).expect("reads");
        let is_id =
            |line: &&str| line.split_once('-').is_some_and(|(ms, _)| ms.len() == 13 && ms.parse::<u64>().is_ok());
        let ids: Vec<String> = shown.lines().filter(is_id).map(str::to_owned).collect();
        if !ids.is_empty() {
            return ids;
        }
    }
    panic!("there was never anything for the consumer that dies");
}

/// Waits until this holds for every service.
fn wait_until(folder: &Path, services: &mut [Service], what: &str, holds: impl Fn(&Service, &Noted) -> bool) {
    let until = Instant::now() + PATIENCE;
    while !services.iter().all(|service| holds(service, &noted(folder, service.name))) {
        check(folder, services, until, what);
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Waits until all that was published was consumed and nothing is pending; what all noted then.
fn wait_for_all_consumed(folder: &Path, services: &mut [Service], port: u16) -> Vec<Noted> {
    let until = Instant::now() + PATIENCE;
    loop {
        let all = all_noted(folder, services);
        let is_consumed = |key: &String| all.iter().any(|noted| noted.consumed.contains_key(key));
        let is_pending =
            |stream: &&str| !redis_cli(port, &["XPENDING", stream, GROUP]).is_ok_and(|p| p.starts_with("0\n"));
        if all.iter().flat_map(|noted| &noted.published).all(is_consumed) && !STREAMS.iter().any(is_pending) {
            return all;
        }
        check(folder, services, until, "all is consumed");
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// Fails where one has ended or the time is over.
fn check(folder: &Path, services: &mut [Service], until: Instant, what: &str) {
    for service in services {
        let name = service.name;
        let ended = service.child.try_wait().expect("it was started");
        assert!(ended.is_none(), "{name} ended before {what}: {ended:?}\n{}", said(folder, name));
        let noted = noted(folder, name);
        let (published, consumed) = (noted.published.len(), noted.consumed.len());
        assert!(Instant::now() < until, "{what}: not in time; {name} published {published}, consumed {consumed}");
    }
}

fn all_noted(folder: &Path, services: &[Service]) -> Vec<Noted> {
    services.iter().map(|service| noted(folder, service.name)).collect()
}

/// What one has noted up to now, whole lines only.
fn noted(folder: &Path, name: &str) -> Noted {
    let mut noted = Noted::default();
    let text = std::fs::read_to_string(folder.join(name)).unwrap_or_default();
    for line in text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')) {
        match line.split_once(' ') {
            Some(("published", key)) => drop(noted.published.insert(key.to_owned())),
            Some(("consumed", key)) => *noted.consumed.entry(key.to_owned()).or_default() += 1,
            _ => panic!("{name} noted {line:?}"),
        }
    }
    noted
}

fn said(folder: &Path, name: &str) -> String {
    std::fs::read_to_string(folder.join(format!("{name}.log"))).unwrap_or_default()
}

impl Drop for Service {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
