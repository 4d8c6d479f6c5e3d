//! Bytes sent to the Redis port: the same requests in whatever pieces they come, of no more bytes than were sent; and a
//! connection that answers them, ends when its client does, and leaves an engine that works.
#![no_main]

use std::sync::OnceLock;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use synapse::access::Keyring;
use synapse::engine::{Engine, EngineOptions};
use synapse::error::{Error, Reason};
use synapse::resp::{Resp, RespOptions, testing};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::{Builder, Runtime};
use tokio_util::sync::CancellationToken;

const REQUEST_BYTES_MAX: usize = 1 << 16;
/// No reply takes as long: a client that has sent all it has is gone, and so is what it waited for.
const REPLIES_WITHIN: Duration = Duration::from_secs(10);

fuzz_target!(|data: &[u8]| {
    let [piece, sent @ ..] = data else { return };
    parse(sent, usize::from(*piece) + 1);
    let (runtime, engine) = server();
    runtime.block_on(connect(engine, sent));
    runtime.block_on(connect(engine, commands(sent).as_bytes()));
    runtime.block_on(clear(engine)).expect("the engine goes on");
});

/// What commands are made of; each byte of the input says which comes next. A line is an inline command.
const WORDS: &[&str] = &[
    "\n",
    "\n",
    "\n",
    "xadd a *",
    "xadd a 5-*",
    "xadd b 1-1 f v",
    "f v",
    "xlen a",
    "xrange a - +",
    "xrevrange a + -",
    "count",
    "block 1",
    "streams a 0",
    "streams a b $ 0-1",
    "xread",
    "xgroup create a g 0",
    "xgroup create b g $ mkstream",
    "xgroup setid a g",
    "xgroup destroy a g",
    "xgroup createconsumer a g c",
    "xgroup delconsumer a g c",
    "xreadgroup group g c",
    "noack",
    "streams a >",
    "streams a b > 0",
    "xack a g",
    "xdel a",
    "xtrim a",
    "maxlen",
    "minid",
    "~",
    "=",
    "limit",
    "xpending a g",
    "- + 10",
    "idle",
    "xclaim a g d 0",
    "force",
    "justid",
    "retrycount",
    "time",
    "lastid",
    "xautoclaim a g d 0 0",
    "xinfo stream a",
    "xinfo groups a",
    "xinfo consumers a g",
    "full",
    "multi",
    "exec",
    "discard",
    "del a",
    "rename a b",
    "flushall",
    "hello 3",
    "client id",
    "config set stream-node-max-entries 2",
    "0",
    "1",
    "5-0",
    "5-1",
    "1-1",
    "-1",
    "9223372036854775807",
    "18446744073709551615-18446744073709551615",
    "(0",
    "a",
    "b",
    "g",
    "c",
    "\"",
    "'",
];

fn commands(sent: &[u8]) -> String {
    sent.iter().map(|byte| WORDS[usize::from(*byte) % WORDS.len()]).flat_map(|word| [word, " "]).chain(["\n"]).collect()
}

fn parse(sent: &[u8], piece: usize) {
    let (requests, refused) = testing::requests(&[sent], REQUEST_BYTES_MAX);
    let bytes: usize = requests.iter().flatten().map(|argument| argument.len()).sum();
    assert!(bytes <= sent.len(), "arguments are what was sent");
    let pieces: Vec<&[u8]> = sent.chunks(piece).collect();
    assert_eq!(testing::requests(&pieces, REQUEST_BYTES_MAX), (requests, refused));
}

fn server() -> &'static (Runtime, Engine) {
    static SERVER: OnceLock<(Runtime, Engine)> = OnceLock::new();
    SERVER.get_or_init(|| {
        let folder = tempfile::tempdir().expect("a folder").keep();
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        (runtime, Engine::open(EngineOptions::new(folder)).expect("an empty folder opens"))
    })
}

async fn connect(engine: &Engine, sent: &[u8]) {
    let (mut client, server) = tokio::io::duplex(1 << 20);
    let drain = CancellationToken::new();
    let options = RespOptions { request_bytes_max: REQUEST_BYTES_MAX, wait_max: REPLIES_WITHIN };
    let resp = Resp::new(engine.clone(), Keyring::default(), options, drain);
    let talk = async {
        // The server may have hung up before it has read everything.
        let _ = client.write_all(sent).await;
        let _ = client.shutdown().await;
        let mut replies = Vec::new();
        let _ = client.read_to_end(&mut replies).await;
    };
    let all = async { tokio::join!(resp.serve(server), talk) };
    tokio::time::timeout(REPLIES_WITHIN, all).await.expect("a connection ends with its client");
}

/// No run sees what another left.
async fn clear(engine: &Engine) -> Result<(), Error> {
    for name in engine.stream_names("") {
        match engine.delete_stream(&name).await {
            // A client that went away did not wait for its own DEL.
            Err(error) if error.reason() == Reason::StreamNotFound => {}
            outcome => outcome?,
        }
    }
    Ok(())
}
