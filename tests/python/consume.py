"""Two groups with two consumers each take the events that publish.py left, in three parts with restarts in between.

first   Sessions take everything, acknowledge nine of ten, and drain.
second  Pulls take what is left, acknowledge nine of ten; the rest is held when the server is killed.
third   Sessions take what is left once its leases have ended, and acknowledge it: nothing remains.

Each part fails unless every group gets exactly what it has not acknowledged, each event once, and unless first
deliveries come to each consumer in order.

Usage: consume.py URL NOTES first|second|third, where NOTES is a folder that the parts share.
"""

import json
import pathlib
import queue
import sys
import threading

from google.protobuf import duration_pb2, empty_pb2, field_mask_pb2

from connection import TIMEOUT_S, Connection, as_key
from publish import EACH, STREAM, in_threads
from synapse.v1 import consumer_service_pb2 as pb
from synapse.v1 import event_pb2

GROUPS = ["analytics-service", "realtime-gateway"]
CONSUMERS = ["c-1", "c-2"]
# Leases of the second part, which the third waits for.
LEASE_S = 8


class Received:
    """What the consumers of one group got, and whether that is all."""

    def __init__(self, group, expected, redelivered):
        self.group = group
        self.redelivered = redelivered
        self.expected = set(expected)
        self.got = {consumer: [] for consumer in CONSUMERS}
        self.count = 0
        self.lock = threading.Lock()
        self.complete = threading.Event()

    def add(self, consumer, delivered):
        """Notes what a consumer got; every event of a part is redelivered or none is."""
        for d in delivered:
            assert (d.deliveries > 1) == self.redelivered, d
        with self.lock:
            self.got[consumer] += [(as_key(d.event.id), d.event.event.id) for d in delivered]
            self.count += len(delivered)
            if self.count >= len(self.expected):
                self.complete.set()

    def check(self):
        """Each expected event once and nothing else; first deliveries in order of ids and of each publisher's numbers."""
        everything = [event for got in self.got.values() for _, event in got]
        assert len(everything) == len(set(everything)), f"{self.group}: something came twice"
        assert set(everything) == self.expected, f"{self.group}: {len(everything)} of {len(self.expected)} came"
        for consumer, got in [] if self.redelivered else self.got.items():
            ids = [entry_id for entry_id, _ in got]
            assert ids == sorted(ids), f"{self.group} {consumer}: out of order"
            for publisher in ("unary", "stream"):
                numbers = [number(event) for _, event in got if event.startswith(publisher)]
                assert numbers == sorted(numbers), f"{self.group} {consumer}: {publisher} out of order"


def number(event_id):
    return int(event_id.rsplit("-", 1)[1])


def consume(connection, received, consumer, keep):
    """Consumes within a session until the group has everything; acknowledges what `keep` does not name, then drains."""
    requests = queue.SimpleQueue()
    window = pb.ConsumeFlow(entries_max=100_000, bytes_max=64 << 20)
    opening = pb.ConsumeOpen(stream=STREAM, group=received.group, consumer=consumer, window=window)
    requests.put(pb.ConsumeRequest(open=opening))
    responses = connection.consumers.Consume(iter(requests.get, None), timeout=TIMEOUT_S)
    assert next(responses).HasField("opened")

    def drain_when_complete():
        received.complete.wait(TIMEOUT_S)
        requests.put(pb.ConsumeRequest(drain=pb.ConsumeDrain()))
        requests.put(None)

    threading.Thread(target=drain_when_complete, daemon=True).start()
    asked, answered, held, drained = [], 0, 0, None
    for response in responses:
        kind = response.WhichOneof("response")
        if kind == "batch":
            events = response.batch.events
            if received.complete.is_set():
                # What the other consumer handed back when it drained.
                held += len(events)
                continue
            settled = [d.event.id for d in events if not keep(number(d.event.event.id))]
            held += len(events) - len(settled)
            if settled:
                ids = [event_pb2.IdRange(first=entry_id) for entry_id in settled]
                requests.put(pb.ConsumeRequest(ack=pb.ConsumeAck(seq=len(asked), ids=ids)))
                asked.append(len(ids))
            received.add(consumer, events)
        elif kind == "ack_result":
            result = response.ack_result
            assert (result.seq, result.done) == (answered, asked[answered]), result
            answered += 1
        elif kind == "drained":
            drained = response.drained.handed_back
    # Handed back is what came and was not acknowledged, and what was on its way.
    assert answered == len(asked) and drained >= held, (answered, len(asked), drained, held)


def pull(connection, received, consumer, keep):
    """Pulls until the group has everything; then acknowledges all but what `keep` names."""
    deliveries = []
    wait = duration_pb2.Duration(nanos=100_000_000)
    while not received.complete.is_set():
        request = pb.PullRequest(
            stream=STREAM, group=received.group, consumer=consumer, entries_max=500, wait=wait
        )
        delivery = connection.consumers.Pull(request, timeout=TIMEOUT_S)
        received.add(consumer, delivery.events)
        deliveries.append(delivery)
    for delivery in deliveries:
        settled = [d.event.id for d in delivery.events if not keep(number(d.event.event.id))]
        if settled:
            acknowledge = pb.AcknowledgeRequest(
                stream=STREAM,
                group=received.group,
                ids=[event_pb2.IdRange(first=entry_id) for entry_id in settled],
                delivery_token=delivery.delivery_token,
            )
            assert connection.consumers.Acknowledge(acknowledge, timeout=TIMEOUT_S).done == len(settled)


def make_group(connection, group):
    request = pb.CreateGroupRequest(
        stream=STREAM,
        group=group,
        start=event_pb2.Position(earliest=empty_pb2.Empty()),
        settings=pb.GroupSettings(ack_wait=duration_pb2.Duration(seconds=TIMEOUT_S)),
    )
    connection.consumers.CreateGroup(request)


def shorten_leases(connection, group):
    request = pb.UpdateGroupRequest(
        stream=STREAM,
        group=group,
        settings=pb.GroupSettings(ack_wait=duration_pb2.Duration(seconds=LEASE_S)),
        update_mask=field_mask_pb2.FieldMask(paths=["ack_wait"]),
    )
    connection.consumers.UpdateGroup(request)


def play(url, notes, part):
    connection = Connection(url)
    for group in GROUPS:
        if part == "first":
            make_group(connection, group)
        elif part == "second":
            shorten_leases(connection, group)
    file = pathlib.Path(notes) / "left.json"
    if part == "first":
        left = [f"{publisher}-{n}" for publisher in ("unary", "stream") for n in range(EACH)]
    else:
        left = json.loads(file.read_text())
    keep = {"first": lambda n: n % 10 == 0, "second": lambda n: n % 100 == 0, "third": lambda n: False}[part]
    all_received = [Received(group, left, part != "first") for group in GROUPS]
    works = []
    for received in all_received:
        for consumer in CONSUMERS:
            take = pull if part == "second" else consume
            works.append(lambda t=take, r=received, c=consumer: t(Connection(url), r, c, keep))
    in_threads(works)
    for received in all_received:
        received.check()
    remaining = [event for event in left if keep(number(event))]
    for group in GROUPS:
        info = connection.consumers.GetGroup(pb.GetGroupRequest(stream=STREAM, group=group)).info
        assert (info.undelivered, info.pending) == (0, len(remaining)), info
    file.write_text(json.dumps(remaining))
    shares = {received.group: [len(got) for got in received.got.values()] for received in all_received}
    print(f"{part}: {len(left)} events to each group, by consumer {shares}, {len(remaining)} left")


if __name__ == "__main__":
    play(*sys.argv[1:])
