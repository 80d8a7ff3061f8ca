"""A gRPC server and a gRPC client on the C core, without generated code. `server PORT TOKEN-FILE [CERTIFICATE KEY]` refuses calls without a credential and
writes the one that it saw, and the word `cancelled` when a client gives a call up; `client HOST:PORT` makes a call of each kind and prints what came back."""

import itertools
import queue
import sys
import threading
import time
from concurrent import futures

import grpc

ECHO, COUNT, SUM, TALK, FAIL, HOLD = (f"/test.Echo/{name}" for name in ("Echo", "Count", "Sum", "Talk", "Fail", "Hold"))


def authorized(context):
    given = dict(context.invocation_metadata()).get("authorization", "")
    if not given.startswith("Bearer "):
        context.abort(grpc.StatusCode.UNAUTHENTICATED, "no credential")
    return given.removeprefix("Bearer ")


class Handler(grpc.GenericRpcHandler):
    def __init__(self, seen):
        self.seen = seen

    def service(self, details):
        return {
            ECHO: grpc.unary_unary_rpc_method_handler(self.echo),
            COUNT: grpc.unary_stream_rpc_method_handler(self.count),
            SUM: grpc.stream_unary_rpc_method_handler(self.sum),
            TALK: grpc.stream_stream_rpc_method_handler(self.talk),
            FAIL: grpc.unary_stream_rpc_method_handler(self.fail),
            HOLD: grpc.unary_stream_rpc_method_handler(self.hold),
        }.get(details.method)

    def echo(self, request, context):
        with open(self.seen, "w") as file:
            file.write(authorized(context))
        context.send_initial_metadata((("x-initial-bin", b"\x00\xff"),))
        context.set_trailing_metadata((("x-trailer", "kept"),))
        return request

    def count(self, request, context):
        authorized(context)
        for number in range(int(request)):
            yield str(number).encode()

    def sum(self, requests, context):
        authorized(context)
        return str(sum(int(r) for r in requests)).encode()

    def talk(self, requests, context):
        authorized(context)
        for request in requests:
            yield request.upper()

    def fail(self, request, context):
        """A message, and then a status with details and metadata of its own: they travel in trailers."""
        authorized(context)
        yield request
        context.set_trailing_metadata((("x-cause-bin", b"\x01\x02"),))
        context.abort(grpc.StatusCode.FAILED_PRECONDITION, "not now – später")

    def hold(self, request, context):
        """Ends when the client does. A thread of its own sees to that: the server library may never come back here once the call is given up."""
        authorized(context)

        def watch():
            while context.is_active():
                time.sleep(0.01)
            print("cancelled", flush=True)

        threading.Thread(target=watch, daemon=True).start()
        yield request
        while context.is_active():
            time.sleep(0.01)


def serve(port, seen, certificate=None, key=None):
    server = grpc.server(futures.ThreadPoolExecutor(4), handlers=[Handler(seen)])
    at = f"127.0.0.1:{port}"
    if certificate:
        with open(certificate, "rb") as chain, open(key, "rb") as private:
            credentials = grpc.ssl_server_credentials([(private.read(), chain.read())])
        assert server.add_secure_port(at, credentials)
    else:
        assert server.add_insecure_port(at)
    server.start()
    print("serving", flush=True)
    server.wait_for_termination()


def call(target):
    with grpc.insecure_channel(target) as channel:
        # What the workload sends as a credential must not arrive.
        reply, outcome = channel.unary_unary(ECHO).with_call(b"hello", metadata=(("authorization", "Bearer forged"),), timeout=60)
        print(reply.decode(), dict(outcome.initial_metadata())["x-initial-bin"], dict(outcome.trailing_metadata())["x-trailer"])
        print(*[r.decode() for r in channel.unary_stream(COUNT)(b"5", timeout=60)])
        print(channel.stream_unary(SUM)(iter([b"1", b"2", b"39"]), timeout=60).decode())

        # Each question is asked when the answer to the one before has come: neither direction waits for the other to end.
        questions = queue.SimpleQueue()
        answers = channel.stream_stream(TALK)(iter(questions.get, None), timeout=60)
        for question in (b"one", b"two", b"three"):
            questions.put(question)
            print(next(answers).decode(), end=" ")
        questions.put(None)
        print(len(list(answers)), answers.code().name)

        # More than a connection's and a stream's window, both ways.
        large = bytes(itertools.islice(itertools.cycle(range(251)), 3 << 20))
        print(channel.unary_unary(ECHO)(large, timeout=60) == large)

        failing = channel.unary_stream(FAIL)(b"first", timeout=60)
        print(next(failing).decode(), end=" ")
        try:
            next(failing)
        except grpc.RpcError as error:
            print(error.code().name, error.details(), dict(error.trailing_metadata())["x-cause-bin"])
        try:
            channel.unary_unary("/test.Echo/Unknown")(b"", timeout=60)
        except grpc.RpcError as error:
            print(error.code().name)

        held = channel.unary_stream(HOLD)(b"held", timeout=60)
        print(next(held).decode())
        held.cancel()


if __name__ == "__main__":
    (serve if sys.argv[1] == "server" else call)(*sys.argv[2:])
