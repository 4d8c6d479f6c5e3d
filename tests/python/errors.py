"""Errors as a stock client sees them: the code, and the standard details with a reason and the fields at fault.

Usage: errors.py URL
"""

import sys

import grpc
from google.protobuf import timestamp_pb2
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_status import rpc_status

from connection import Connection
from synapse.v1 import consumer_service_pb2, event_pb2, event_service_pb2, stream_service_pb2


def refusal(call, request):
    """The code, the reason and the fields at fault with which a call is refused."""
    try:
        answer = call(request, timeout=60)
    except grpc.RpcError as refused:
        code, details = refused.code(), rpc_status.from_call(refused).details
    else:
        raise AssertionError(f"not refused: {answer}")
    info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    for detail in details:
        detail.Unpack(info)
        detail.Unpack(bad)
    assert info.domain == "synapse.dev", info
    return code, info.reason, [violation.field for violation in bad.field_violations]


def main(url):
    connection = Connection(url)
    publish, pull = connection.events.Publish, connection.consumers.Pull
    event = event_pb2.Event(source="/s", type="t", data=b"x")
    publish(event_service_pb2.PublishRequest(stream="s", events=[event], create_stream=True))

    def publishing(**fields):
        return event_service_pb2.PublishRequest(**{"stream": "s", "events": [event], **fields})

    later = event_pb2.Event(source="/s", type="t", data=b"x", deliver_at=timestamp_pb2.Timestamp(seconds=1 << 31))
    cases = [
        (publish, publishing(stream=""), grpc.StatusCode.INVALID_ARGUMENT),
        (publish, publishing(stream="a\nb"), grpc.StatusCode.INVALID_ARGUMENT),
        (publish, publishing(events=[]), grpc.StatusCode.INVALID_ARGUMENT),
        (publish, publishing(events=[later]), grpc.StatusCode.UNIMPLEMENTED),
        (publish, publishing(stream="none", create_stream=False), grpc.StatusCode.NOT_FOUND),
        (publish, publishing(exact_id=event_pb2.EntryId(ms=1)), grpc.StatusCode.FAILED_PRECONDITION),
        (
            pull,
            consumer_service_pb2.PullRequest(stream="s", group="none", consumer="c"),
            grpc.StatusCode.NOT_FOUND,
        ),
    ]
    for call, request, expected in cases:
        code, reason, fields = refusal(call, request)
        print(f"{code.name} {reason} {fields}")
        assert code == expected and reason, (request, code, reason)
        assert fields or code != grpc.StatusCode.INVALID_ARGUMENT, request
    info = connection.streams.GetStream(stream_service_pb2.GetStreamRequest(stream="s")).info
    assert info.length == 1, "what was refused changed nothing"

    health = health_pb2_grpc.HealthStub(connection.channel)
    for service in ("", "synapse.v1.EventService", "synapse.v1.ConsumerService", "synapse.v1.StreamService"):
        answer = health.Check(health_pb2.HealthCheckRequest(service=service), timeout=60)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING, (service, answer)


if __name__ == "__main__":
    main(sys.argv[1])
