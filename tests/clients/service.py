"""A service of the platform on redis.asyncio: publishes flat events, consumes as one of a group, and takes over what others
left. Goes on over restarts of the server.

    service.py PORT NAME COUNT FOLDER

Publishes COUNT events, notes in FOLDER/NAME what was acknowledged and what was consumed, and ends once FOLDER/stop is there.
"""

import asyncio
import os
import sys
import time

import redis.asyncio as redis
from redis.exceptions import ConnectionError, ResponseError, TimeoutError

PORT, NAME, COUNT, FOLDER = int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4]
STREAMS = ["inference-events", "platform-events"]
GROUP = "analytics-service"
LEDGER = open(os.path.join(FOLDER, NAME), "a", buffering=1)


def is_stopped():
    return os.path.exists(os.path.join(FOLDER, "stop"))


async def again(call):
    """What the call answers, made again while there is no server."""
    until = time.monotonic() + 30
    while True:
        try:
            return await call()
        except (ConnectionError, TimeoutError):
            if time.monotonic() > until:
                raise
            await asyncio.sleep(0.1)


async def publish(client):
    for n in range(COUNT):
        event = {
            "event": "inference-complete",
            "request_id": f"{NAME}-{n}",
            "model_name": "cyrex-7b",
            "latency_ms": str(n % 300),
            "confidence": "0.93",
            "timestamp": str(time.time()),
        }
        stream = STREAMS[n % 2]
        id = await again(lambda: client.xadd(stream, event, maxlen=100_000))
        LEDGER.write(f"published {stream} {id} {event['request_id']}\n")
        await asyncio.sleep(0.005)


async def handle(client, stream, entries):
    for id, event in entries:
        LEDGER.write(f"consumed {stream} {id} {event['request_id']}\n")
        await again(lambda: client.xack(stream, GROUP, id))


async def consume(client):
    streams = {stream: ">" for stream in STREAMS}
    while not is_stopped():
        found = await again(lambda: client.xreadgroup(GROUP, NAME, streams, count=10, block=500))
        for stream, entries in found or []:
            await handle(client, stream, entries)


async def take_over(client):
    cursors = {stream: "0-0" for stream in STREAMS}
    while not is_stopped():
        await asyncio.sleep(0.3)
        for stream in STREAMS:
            claim = lambda: client.xautoclaim(stream, GROUP, NAME, 1000, cursors[stream], count=50)
            cursors[stream], entries, _deleted = await again(claim)
            await handle(client, stream, entries)


async def main():
    client = redis.Redis(port=PORT, decode_responses=True, client_name=NAME)
    for stream in STREAMS:
        try:
            await again(lambda: client.xgroup_create(stream, GROUP, "0", mkstream=True))
        except ResponseError as error:
            assert "BUSYGROUP" in str(error), error
    await asyncio.gather(publish(client), consume(client), take_over(client))
    await client.aclose()


asyncio.run(main())
