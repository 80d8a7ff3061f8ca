"""A gRPC server and a gRPC client on the C core, without generated code. `server PORT TOKEN-FILE` refuses calls without a credential and writes the one that
it saw; `client HOST:PORT` makes a unary call and a stream each way and prints what came back."""

import sys
from concurrent import futures

import grpc

ECHO, COUNT, SUM = "/test.Echo/Echo", "/test.Echo/Count", "/test.Echo/Sum"


def authorized(context):
    given = dict(context.invocation_metadata()).get("authorization", "")
    if not given.startswith("Bearer "):
        context.abort(grpc.StatusCode.UNAUTHENTICATED, "no credential")
    return given.removeprefix("Bearer ")


class Handler(grpc.GenericRpcHandler):
    def __init__(self, seen):
        self.seen = seen

    def service(self, details):
        if details.method == ECHO:
            return grpc.unary_unary_rpc_method_handler(self.echo)
        if details.method == COUNT:
            return grpc.unary_stream_rpc_method_handler(self.count)
        if details.method == SUM:
            return grpc.stream_unary_rpc_method_handler(self.sum)
        return None

    def echo(self, request, context):
        with open(self.seen, "w") as file:
            file.write(authorized(context))
        context.set_trailing_metadata((("x-trailer", "kept"),))
        return request

    def count(self, request, context):
        authorized(context)
        for number in range(int(request)):
            yield str(number).encode()

    def sum(self, requests, context):
        authorized(context)
        return str(sum(int(r) for r in requests)).encode()


def serve(port, seen):
    server = grpc.server(futures.ThreadPoolExecutor(4), handlers=[Handler(seen)])
    assert server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    print("serving", flush=True)
    server.wait_for_termination()


def call(target):
    with grpc.insecure_channel(target) as channel:
        # What the workload sends as a credential must not arrive.
        reply, outcome = channel.unary_unary(ECHO).with_call(b"hello", metadata=(("authorization", "Bearer forged"),), timeout=20)
        print(reply.decode(), dict(outcome.trailing_metadata())["x-trailer"])
        print(*[r.decode() for r in channel.unary_stream(COUNT)(b"5", timeout=20)])
        print(channel.stream_unary(SUM)(iter([b"1", b"2", b"39"]), timeout=20).decode())


if __name__ == "__main__":
    (serve if sys.argv[1] == "server" else call)(*sys.argv[2:])
