"""gRPC's interoperability test service, as client and as server of grpcio, with messages encoded by hand:

    grpc_interop.py server ADDRESS PORT CERTIFICATE KEY    says "ready"; wants the metadata that $AUTHORIZATION names
    grpc_interop.py client HOST PORT CASE                  ends with 0 when the case holds

The cases and the service are those of grpc/doc/interop-test-descriptions.md; other languages have the same.
"""

import os
import queue
import sys
import time
from concurrent import futures

import grpc

SERVICE = "grpc.testing.TestService"
SPECIAL = "\t\ntest with whitespace\r\nand Unicode BMP \u263a and non-BMP \U0001f608\t\n"
INITIAL, TRAILING = "x-grpc-test-echo-initial", "x-grpc-test-echo-trailing-bin"


def varint(value):
    out = b""
    while value >= 128:
        out, value = out + bytes([value & 127 | 128]), value >> 7
    return out + bytes([value])


def field(number, value):
    """A field of a message: an int, or bytes."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def fields(message):
    """Numbers and values, in order."""
    at, found = 0, []

    def read():
        nonlocal at
        value = shift = 0
        while True:
            byte = message[at]
            at, value, shift = at + 1, value | (byte & 127) << shift, shift + 7
            if byte < 128:
                return value

    while at < len(message):
        tag = read()
        value = read()
        if tag & 7 == 2:
            value, at = message[at : at + value], at + value
        found.append((tag >> 3, value))
    return found


def payload(size):
    return field(2, bytes(size))


def size_of_payload(message, number):
    inner = dict(fields(message)).get(number, b"")
    return len(dict(fields(inner)).get(2, b""))


# The server.


def greet(context):
    """Metadata that is asked to be sent back; and the credential, which the guard alone knows."""
    sent = dict(context.invocation_metadata())
    wanted = os.environ.get("AUTHORIZATION")
    if wanted and sent.get("authorization") != wanted:
        context.abort(grpc.StatusCode.UNAUTHENTICATED, "no credential came")
    if INITIAL in sent:
        context.send_initial_metadata([(INITIAL, sent[INITIAL])])
    if TRAILING in sent:
        context.set_trailing_metadata([(TRAILING, sent[TRAILING])])


def obey_status(request, context):
    status = dict(fields(dict(fields(request)).get(7, b"")))
    if status.get(1):
        code = next(c for c in grpc.StatusCode if c.value[0] == status[1])
        context.abort(code, status.get(2, b"").decode())


def empty(request, context):
    greet(context)
    return b""


def unary(request, context):
    greet(context)
    obey_status(request, context)
    return field(1, payload(dict(fields(request)).get(2, 0)))


def answers(request):
    for number, parameters in fields(request):
        if number == 2:
            wanted = dict(fields(parameters))
            time.sleep(wanted.get(2, 0) / 1e6)
            yield field(1, payload(wanted.get(1, 0)))


def streaming_output(request, context):
    greet(context)
    yield from answers(request)


def streaming_input(requests, context):
    greet(context)
    return field(1, sum(size_of_payload(request, 1) for request in requests))


def full_duplex(requests, context):
    greet(context)
    for request in requests:
        obey_status(request, context)
        yield from answers(request)


def serve(address, port, certificate, key):
    handlers = {
        "EmptyCall": grpc.unary_unary_rpc_method_handler(empty),
        "UnaryCall": grpc.unary_unary_rpc_method_handler(unary),
        "StreamingOutputCall": grpc.unary_stream_rpc_method_handler(streaming_output),
        "StreamingInputCall": grpc.stream_unary_rpc_method_handler(streaming_input),
        "FullDuplexCall": grpc.stream_stream_rpc_method_handler(full_duplex),
    }
    server = grpc.server(futures.ThreadPoolExecutor(16))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    pair = (open(key, "rb").read(), open(certificate, "rb").read())
    server.add_secure_port(f"{address}:{port}", grpc.ssl_server_credentials([pair]))
    server.start()
    print("ready", flush=True)
    server.wait_for_termination()


# The client: each case is a function of a channel.


def method(channel, kind, name, service=SERVICE):
    return getattr(channel, kind)(f"/{service}/{name}")


def output_request(*sizes, interval_us=0):
    return b"".join(field(2, field(1, size) + (field(2, interval_us) if interval_us else b"")) for size in sizes)


def status_of(call):
    try:
        call()
    except grpc.RpcError as error:
        return error.code().name, error.details()
    return "OK", ""


def one_by_one(channel, requests, timeout=20):
    """A call in both directions, whose next request goes out when the one before was answered."""
    asked = queue.Queue()
    call = method(channel, "stream_stream", "FullDuplexCall")(iter(asked.get, None), timeout=timeout)
    replies = []
    for request in requests:
        asked.put(request)
        replies.append(next(call))
    asked.put(None)
    return replies, list(call), call


def empty_unary(channel):
    assert method(channel, "unary_unary", "EmptyCall")(b"", timeout=20) == b""


def large_unary(channel):
    request = field(2, 314159) + field(3, payload(271828))
    assert size_of_payload(method(channel, "unary_unary", "UnaryCall")(request, timeout=30), 1) == 314159


def client_streaming(channel):
    requests = (field(1, payload(size)) for size in (27182, 8, 1828, 45904))
    assert method(channel, "stream_unary", "StreamingInputCall")(requests, timeout=30) == field(1, 74922)


def server_streaming(channel):
    sizes = [31415, 9, 2653, 58979]
    call = method(channel, "unary_stream", "StreamingOutputCall")(output_request(*sizes), timeout=30)
    assert [size_of_payload(reply, 1) for reply in call] == sizes


def ping_pong(channel):
    pairs = [(31415, 27182), (9, 8), (2653, 1828), (58979, 45904)]
    requests = [output_request(answer) + field(3, payload(sent)) for answer, sent in pairs]
    replies, rest, call = one_by_one(channel, requests)
    assert [size_of_payload(reply, 1) for reply in replies] == [answer for answer, _ in pairs] and rest == []
    assert call.code().name == "OK"


def empty_stream(channel):
    replies, rest, call = one_by_one(channel, [])
    assert replies == rest == [] and call.code().name == "OK"


def custom_metadata(channel):
    metadata = [(INITIAL, "test_initial_metadata_value"), (TRAILING, b"\xab\xab\xab")]
    request = field(2, 314159) + field(3, payload(271828))
    _, call = method(channel, "unary_unary", "UnaryCall").with_call(request, metadata=metadata, timeout=30)
    both = method(channel, "stream_stream", "FullDuplexCall")(iter([output_request(314159)]), metadata=metadata, timeout=30)
    assert len(list(both)) == 1
    for made in (call, both):
        assert metadata[0] in [tuple(m) for m in made.initial_metadata()], made.initial_metadata()
        assert metadata[1] in [tuple(m) for m in made.trailing_metadata()], made.trailing_metadata()


def status_code_and_message(channel):
    request = field(7, field(1, 2) + field(2, b"test status message"))
    wanted = ("UNKNOWN", "test status message")
    assert status_of(lambda: method(channel, "unary_unary", "UnaryCall")(request, timeout=20)) == wanted
    call = method(channel, "stream_stream", "FullDuplexCall")
    assert status_of(lambda: list(call(iter([request]), timeout=20))) == wanted


def special_status_message(channel):
    request = field(7, field(1, 2) + field(2, SPECIAL.encode()))
    call = method(channel, "unary_unary", "UnaryCall")
    assert status_of(lambda: call(request, timeout=20)) == ("UNKNOWN", SPECIAL)


def unimplemented_method(channel):
    call = method(channel, "unary_unary", "UnimplementedCall")
    assert status_of(lambda: call(b"", timeout=20))[0] == "UNIMPLEMENTED"


def unimplemented_service(channel):
    call = method(channel, "unary_unary", "UnimplementedCall", "grpc.testing.UnimplementedService")
    assert status_of(lambda: call(b"", timeout=20))[0] == "UNIMPLEMENTED"


def cancel_after_begin(channel):
    asked = queue.Queue()
    call = method(channel, "stream_unary", "StreamingInputCall").future(iter(asked.get, None), timeout=20)
    call.cancel()
    asked.put(None)
    assert call.cancelled() and call.code().name == "CANCELLED"


def cancel_after_first_response(channel):
    asked = queue.Queue()
    call = method(channel, "stream_stream", "FullDuplexCall")(iter(asked.get, None), timeout=20)
    asked.put(output_request(31415) + field(3, payload(27182)))
    assert size_of_payload(next(call), 1) == 31415
    call.cancel()
    asked.put(None)
    assert status_of(lambda: next(call))[0] == "CANCELLED"


def timeout_on_sleeping_server(channel):
    request = output_request(31415, interval_us=2_000_000) + field(3, payload(27182))
    call = method(channel, "stream_stream", "FullDuplexCall")(iter([request]), timeout=0.5)
    assert status_of(lambda: list(call))[0] == "DEADLINE_EXCEEDED"


CASES = {
    case.__name__: case
    for case in (
        empty_unary, large_unary, client_streaming, server_streaming, ping_pong, empty_stream, custom_metadata,
        status_code_and_message, special_status_message, unimplemented_method, unimplemented_service,
        cancel_after_begin, cancel_after_first_response, timeout_on_sleeping_server,
    )
}


def run_case(host, port, case):
    roots = open(os.environ["SSL_CERT_FILE"], "rb").read()
    with grpc.secure_channel(f"{host}:{port}", grpc.ssl_channel_credentials(roots)) as channel:
        CASES[case](channel)


if __name__ == "__main__":
    (serve if sys.argv[1] == "server" else run_case)(*sys.argv[2:])
