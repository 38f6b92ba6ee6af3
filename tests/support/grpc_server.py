"""A gRPC server of all four kinds of methods: `grpc_server.py ADDRESS PORT CERTIFICATE KEY`. Messages are plain bytes."""

import sys
import time
from concurrent import futures

import grpc


def unary(request, context):
    context.send_initial_metadata([("x-initial", "i")])
    context.set_trailing_metadata([("x-trailing", "t"), ("x-bytes-bin", b"\x00\xff")])
    return b"echo " + request


def down(request, context):
    for number in range(int(request)):
        yield b"%d" % number
        time.sleep(0.2)


def up(requests, context):
    return b"%d" % sum(len(r) for r in requests)


def both(requests, context):
    for request in requests:
        yield b"got " + request


def broken(request, context):
    context.set_trailing_metadata([("x-why", "because")])
    context.abort(grpc.StatusCode.FAILED_PRECONDITION, "not today: \u00e4 %")


def slow(request, context):
    left = context.time_remaining()
    gone = []
    context.add_callback(lambda: gone.append(time.monotonic()))
    for _ in range(100):
        time.sleep(0.1)
        if gone:
            print("cancelled", flush=True)
            return b""
    return b"%.1f" % left


HANDLERS = {
    "Unary": grpc.unary_unary_rpc_method_handler(unary),
    "Down": grpc.unary_stream_rpc_method_handler(down),
    "Up": grpc.stream_unary_rpc_method_handler(up),
    "Both": grpc.stream_stream_rpc_method_handler(both),
    "Broken": grpc.unary_unary_rpc_method_handler(broken),
    "Slow": grpc.unary_unary_rpc_method_handler(slow),
}


def main(address, port, certificate, key):
    server = grpc.server(futures.ThreadPoolExecutor(32))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Echo", HANDLERS),))
    pair = (open(key, "rb").read(), open(certificate, "rb").read())
    server.add_secure_port(f"{address}:{port}", grpc.ssl_server_credentials([pair]))
    server.start()
    print("ready", flush=True)
    server.wait_for_termination()


if __name__ == "__main__":
    main(*sys.argv[1:])
