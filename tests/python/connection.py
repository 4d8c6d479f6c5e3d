"""How the programs here reach the server: a channel with the library's defaults, and the stubs over it."""

import grpc

from synapse.v1 import consumer_service_pb2_grpc, event_service_pb2_grpc, stream_service_pb2_grpc

# No call of these programs takes longer on a machine that works.
TIMEOUT_S = 120


class Connection:
    """A channel to `url` and the three services' stubs."""

    def __init__(self, url):
        self.channel = grpc.insecure_channel(url.removeprefix("http://"))
        grpc.channel_ready_future(self.channel).result(timeout=TIMEOUT_S)
        self.events = event_service_pb2_grpc.EventServiceStub(self.channel)
        self.consumers = consumer_service_pb2_grpc.ConsumerServiceStub(self.channel)
        self.streams = stream_service_pb2_grpc.StreamServiceStub(self.channel)


def as_key(entry_id):
    """An id as something that compares and counts."""
    return (entry_id.ms, entry_id.seq)
