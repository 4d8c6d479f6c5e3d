// A service of the platform on ioredis: publishes enveloped events, consumes as one of a group, and takes over what others
// left. Goes on over restarts of the server.
//
//     service.js PORT NAME COUNT FOLDER PACKAGE
//
// Publishes COUNT events, notes in FOLDER/NAME what was acknowledged and what was consumed, and ends once FOLDER/stop is
// there. PACKAGE is the version of ioredis, by the name under which it is installed.

const fs = require('fs');
const path = require('path');

const [port, name, count, folder, pkg] = process.argv.slice(2);
const Redis = require(pkg);
const STREAMS = ['inference-events', 'platform-events'];
const GROUP = 'analytics-service';

const note = (line) => fs.appendFileSync(path.join(folder, name), line + '\n');
const isStopped = () => fs.existsSync(path.join(folder, 'stop'));
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

// What the call answers, made again while there is no server.
async function again(call) {
  const until = Date.now() + 30000;
  for (;;) {
    try {
      return await call();
    } catch (error) {
      const isAnswer = error.name === 'ReplyError' && !error.message.startsWith('LOADING');
      if (isAnswer || Date.now() > until) throw error;
      await pause(100);
    }
  }
}

async function publish(client) {
  for (let n = 0; n < Number(count); n++) {
    const stream = STREAMS[n % 2];
    const id = `${name}-${n}`;
    const fields = {
      event: 'task-created',
      request_id: id,
      source: 'task-orchestrator',
      timestamp: new Date().toISOString(),
      data: JSON.stringify({ taskId: n, userId: 'u1' }),
    };
    const pairs = Object.entries(fields).flat();
    const entry = await again(() => client.xadd(stream, 'MAXLEN', '~', 100000, '*', ...pairs));
    note(`published ${stream} ${entry} ${id}`);
    await pause(5);
  }
}

async function handle(client, stream, entries) {
  for (const [id, fields] of entries) {
    note(`consumed ${stream} ${id} ${fields[fields.indexOf('request_id') + 1]}`);
    await again(() => client.xack(stream, GROUP, id));
  }
}

// The two versions of the protocol have pairs of stream and entries as a list, or one after the other.
function byStream(found) {
  const list = Array.isArray(found) ? found : Object.entries(found ?? {});
  return Array.isArray(list[0]) ? list : list.flatMap((item, n) => (n % 2 ? [] : [[item, list[n + 1]]]));
}

async function consume(client) {
  const reader = client.duplicate();
  while (!isStopped()) {
    const found = await again(() =>
      reader.xreadgroup('GROUP', GROUP, name, 'COUNT', 10, 'BLOCK', 500, 'STREAMS', ...STREAMS, '>', '>'),
    );
    for (const [stream, entries] of byStream(found)) await handle(client, stream, entries);
  }
  reader.disconnect();
}

async function takeOver(client) {
  const cursors = Object.fromEntries(STREAMS.map((stream) => [stream, '0-0']));
  while (!isStopped()) {
    await pause(300);
    for (const stream of STREAMS) {
      const [next, entries] = await again(() =>
        client.xautoclaim(stream, GROUP, name, 1000, cursors[stream], 'COUNT', 50),
      );
      cursors[stream] = next;
      await handle(client, stream, entries);
    }
  }
}

async function main() {
  const client = new Redis({ port: Number(port), connectionName: name });
  // It reconnects by itself; without a listener it prints what it does.
  client.on('error', () => {});
  for (const stream of STREAMS) {
    await again(() => client.xgroup('CREATE', stream, GROUP, '0', 'MKSTREAM')).catch((error) => {
      if (!error.message.startsWith('BUSYGROUP')) throw error;
    });
  }
  await Promise.all([publish(client), consume(client), takeOver(client)]);
  client.disconnect();
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
