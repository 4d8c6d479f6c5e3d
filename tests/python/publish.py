"""Publishes 100,000 events to one stream: half of them in unary batches, half over a publish stream, at the same time.

Usage: publish.py URL
"""

import sys
import threading

from connection import TIMEOUT_S, Connection, as_key
from synapse.v1 import event_pb2, event_service_pb2, stream_service_pb2

STREAM = "training-events"
EACH = 50_000
BATCH = 250


def batch(publisher, first):
    """The publisher's events from number `first` on."""
    events = [
        event_pb2.Event(
            id=f"{publisher}-{number}",
            source=f"/{publisher}",
            type="training-progress",
            data_content_type="application/json",
            data=b'{"step": %d, "loss": 0.41}' % number,
        )
        for number in range(first, first + BATCH)
    ]
    return event_service_pb2.PublishRequest(stream=STREAM, events=events)


def check(published, after):
    """A published batch: all of it, new, with rising ids above `after`; answers its last id."""
    assert published.count == BATCH and not published.duplicate, published
    first, last = as_key(published.first_id), as_key(published.last_id)
    assert after < first < last, (after, first, last)
    return last


def publish_batches(url):
    events = Connection(url).events
    after = (0, 0)
    for first in range(0, EACH, BATCH):
        after = check(events.Publish(batch("unary", first), timeout=TIMEOUT_S), after)


def publish_stream(url):
    requests = (
        event_service_pb2.PublishStreamRequest(seq=first, publish=batch("stream", first))
        for first in range(0, EACH, BATCH)
    )
    after, due = (0, 0), 0
    for response in Connection(url).events.PublishStream(requests, timeout=TIMEOUT_S):
        assert response.seq == due and response.WhichOneof("result") == "published", response
        after = check(response.published, after)
        due += BATCH
    assert due == EACH, due


def in_threads(works):
    """Runs these at the same time; fails where one does."""
    failures = []

    def guarded(work):
        try:
            work()
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=guarded, args=[work]) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


if __name__ == "__main__":
    url = sys.argv[1]
    in_threads([lambda: publish_batches(url), lambda: publish_stream(url)])
    info = Connection(url).streams.GetStream(stream_service_pb2.GetStreamRequest(stream=STREAM)).info
    assert info.length == 2 * EACH, info
    print(f"published {info.length} events")
