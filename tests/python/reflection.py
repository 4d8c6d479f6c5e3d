"""A client without stubs: finds the services by reflection, builds messages from what it is told, publishes, reads back.

Usage: reflection.py URL
"""

import pathlib
import sys

import grpc
from google.protobuf import descriptor_pool, message_factory
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

SERVED = {
    "grpc.health.v1.Health",
    "synapse.v1.BackupService",
    "synapse.v1.ConsumerService",
    "synapse.v1.EventService",
    "synapse.v1.StreamService",
}


def methods_in_proto():
    """What the services' proto files declare: `service -> names`, read as text."""
    declared = {}
    folder = pathlib.Path(__file__).parents[2] / "proto" / "synapse" / "v1"
    for name in ("EventService", "ConsumerService", "StreamService", "BackupService"):
        file = folder / f"{name.removesuffix('Service').lower()}_service.proto"
        lines = [line.strip() for line in file.read_text().splitlines()]
        declared[f"synapse.v1.{name}"] = {
            line.split("(")[0].removeprefix("rpc ") for line in lines if line.startswith("rpc ")
        }
    return declared


def main(url):
    channel = grpc.insecure_channel(url.removeprefix("http://"))
    grpc.channel_ready_future(channel).result(timeout=60)
    database = ProtoReflectionDescriptorDatabase(channel)
    services = set(database.get_services())
    assert SERVED <= services, services
    pool = descriptor_pool.DescriptorPool(database)
    for service, declared in methods_in_proto().items():
        told = {method.name for method in pool.FindServiceByName(service).methods}
        assert declared and told == declared, (service, told ^ declared)

    def call(service, method, **fields):
        described = pool.FindServiceByName(service).FindMethodByName(method)
        request = message_factory.GetMessageClass(described.input_type)(**fields)
        answer = message_factory.GetMessageClass(described.output_type)
        stub = channel.unary_unary(
            f"/{service}/{method}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=answer.FromString,
        )
        return stub(request, timeout=60)

    event = {"id": "1", "source": "/reflection", "type": "told", "data": b"by reflection alone"}
    published = call("synapse.v1.EventService", "Publish", stream="told", events=[event], create_stream=True)
    read = call("synapse.v1.EventService", "ReadEvents", stream="told")
    assert published.count == 1 and [e.event.data for e in read.events] == [event["data"]], read
    print(f"{len(services)} services by reflection")


if __name__ == "__main__":
    main(sys.argv[1])
