"""After the 101 both ends send frames. What two readers could take in two ways, or what no frame is, does not pass."""

import time

import pytest

import guard
import origin

HOST = "v4.example.com"
POLICY = guard.policy(guard.endpoint(HOST, methods=["GET"]))
GOOD = origin.frame(0x82, b"good", b"abcd")


def talk(path, data, extensions=None):
    """Upgrades, sends the bytes, and returns the status and everything that comes until the end."""
    with connect("v4.example.com") as stream:  # noqa: F821
        offered = f"Sec-WebSocket-Extensions: {extensions}\r\n" if extensions else ""
        stream.sendall(
            f"GET {path} HTTP/1.1\r\nHost: v4.example.com\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n{offered}"
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
        )
        reader = Reader(stream)  # noqa: F821
        status = reader.response()["status"]
        try:
            stream.sendall(data)
        except OSError:
            pass
        return status, reader.buffer + read_all(stream)[0]  # noqa: F821


def mask(first, payload, **more):
    return origin.frame(first, payload, b"wxyz", **more)


WRONG = {
    "no mask": origin.frame(0x82, b"marker"),
    "a reserved bit": mask(0xA2, b"marker"),
    "RSV1 without an extension": mask(0xC2, b"marker"),
    "an opcode that means nothing": mask(0x83, b"marker"),
    "a control opcode that means nothing": mask(0x8B, b"marker"),
    "a ping in pieces": mask(0x09, b"marker"),
    "a ping that is too long": mask(0x89, b"marker" * 30),
    "a length in a longer form": mask(0x82, b"marker", long=2),
    "a length in the longest form": mask(0x82, b"marker", long=8),
    "a length with its highest bit": b"\x82\xff\x80\0\0\0\0\0\0\x06wxyzmarker",
    "a continuation of nothing": mask(0x80, b"marker"),
    "a message within another": mask(0x02, b"begun") + mask(0x82, b"marker"),
    "half a close code": mask(0x88, b"m"),
    "a close code that is none": mask(0x88, b"\x03\xedmarker"),
    "a close code of tomorrow": mask(0x88, b"\x04\x00marker"),
    "an HTTP request": b"GET /marker HTTP/1.1\r\nHost: v4.example.com\r\n\r\n",
    "a TLS record": b"\x16\x03\x01\x00\x06marker",
    "zeros": bytes(64) + b"marker",
}


@pytest.mark.parametrize("what", WRONG)
def test_a_frame_of_the_function_that_is_none(session, world, what):
    status, came = session.do(talk, "/websocket-says", GOOD + WRONG[what])
    assert status == 101
    assert came == b"\x88\x02\x03\xea"
    record = session.wait_for_records(lambda found: found)[-1]
    [request] = world.saw("websocket-says")
    end = time.monotonic() + 10
    while not request.complete and time.monotonic() < end:
        time.sleep(0.02)
    assert request.body.startswith(GOOD) and b"marker" not in request.body and mask(0, b"marker")[6:] not in request.body
    assert (record["decision"], record["reason"]) == ("deny", "malformed-websocket"), record
    # The server gets a close frame in the function's place, masked, and then the end.
    last = request.body[-8:]
    assert last[:2] == b"\x88\x82" and bytes([last[6] ^ last[2], last[7] ^ last[3]]) == b"\x03\xea"
    session.bench.record.write_text("")


LATE = {
    "a message": mask(0x82, b"marker"),
    "another close frame": mask(0x88, b"\x03\xe8marker"),
    "an HTTP request": b"GET /marker HTTP/1.1\r\nHost: v4.example.com\r\n\r\n",
    "a message of megabytes": mask(0x82, b"marker" * 500_000),
}


@pytest.mark.parametrize("what", LATE)
def test_what_follows_a_close_frame_does_not_pass(session, world, what):
    """RFC 6455 section 5.5.1: it means nothing, so it is read away, and the answer to the close frame still comes."""

    def close_and_go_on(data, closing):
        import time

        with connect("v4.example.com") as stream:  # noqa: F821
            stream.sendall(
                f"GET /websocket-says?bytes={closing} HTTP/1.1\r\nHost: v4.example.com\r\nUpgrade: websocket\r\n"
                "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
            )
            reader = Reader(stream)  # noqa: F821
            reader.response()
            stream.sendall(data)
            time.sleep(0.1)
            return reader.exactly(4)

    closing = mask(0x88, b"\x03\xe8")
    assert session.do(close_and_go_on, GOOD + closing + LATE[what], "880203e8") == b"\x88\x02\x03\xe8"
    record = session.wait_for_records(lambda found: found)[-1]
    [request] = world.saw("websocket-says")
    end = time.monotonic() + 10
    while not request.complete and time.monotonic() < end:
        time.sleep(0.02)
    assert request.body == GOOD + closing
    assert (record["decision"], record["bytes_up"]) == ("allow", len(GOOD + closing)), record
    session.bench.record.write_text("")


def go_on_behind_it(bad, more):
    """Sends what breaks the rules, and goes on sending; whether the close frame is read, and the end, all the same."""
    import time

    with connect("v4.example.com") as stream:  # noqa: F821
        stream.sendall(
            b"GET /websocket-says HTTP/1.1\r\nHost: v4.example.com\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        reader = Reader(stream)  # noqa: F821
        reader.response()
        stream.sendall(bad)
        for _ in range(5):
            time.sleep(0.05)
            stream.sendall(more)
        came, how = read_all(stream)  # noqa: F821
        return reader.buffer + came, how


def test_who_goes_on_sending_reads_the_close_frame(session, world):
    """A reset would overtake it: what comes behind a frame that is none is read away, for a time."""
    came = session.do(go_on_behind_it, WRONG["a reserved bit"], mask(0x82, b"marker" * 50_000))
    assert came == (b"\x88\x02\x03\xea", "end")
    session.wait_for_records(lambda found: found)
    [request] = world.saw("websocket-says")
    assert b"marker" not in request.body and request.body[:2] == b"\x88\x82"
    session.bench.record.write_text("")


SERVER = {
    "a mask": origin.frame(0x82, b"marker", b"wxyz"),
    "a reserved bit": origin.frame(0xB2, b"marker"),
    "an opcode that means nothing": origin.frame(0x87, b"marker"),
    "a pong that is too long": origin.frame(0x8A, b"marker" * 30),
    "a length in a longer form": origin.frame(0x82, b"marker", long=8),
    "a continuation of nothing": origin.frame(0x00, b"marker"),
    "a close code that is none": origin.frame(0x88, b"\x00\x00marker"),
    "a response": b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nmarker",
}


@pytest.mark.parametrize("what", SERVER)
def test_a_frame_of_the_server_that_is_none(session, world, what):
    hello = origin.frame(0x81, b"hello")
    status, came = session.do(talk, f"/websocket-says?bytes={(hello + SERVER[what]).hex()}", b"")
    assert (status, came) == (101, hello + b"\x88\x02\x03\xea")
    record = session.wait_for_records(lambda found: found)[-1]
    assert (record["decision"], record["reason"]) == ("error", "upstream-malformed"), record
    session.bench.record.write_text("")


@pytest.mark.parametrize(
    "offered, agreed, passes",
    [
        ("permessage-deflate; client_max_window_bits", "permessage-deflate", True),
        ("permessage-deflate", "", True),
        (None, "permessage-deflate", False),
        ("x-other", "x-other", False),
        ("x-other, permessage-deflate", "permessage-deflate", False),
        ("permessage-deflate", "permessage-deflate, x-other", False),
        ("permessage-deflate", "permessage-deflate, permessage-deflate", False),
    ],
)
def test_extensions_are_those_that_the_relay_understands(session, world, offered, agreed, passes):
    """An extension may make another thing of a frame, so that what is checked is not what is read."""
    frame = origin.frame(0xC1 if passes and agreed else 0x81, b"squeezed") + origin.frame(0x88, b"")
    path = f"/websocket-says?bytes={frame.hex()}&extensions={agreed.replace(' ', '%20')}"
    status, came = session.do(talk, path, origin.frame(0x88, b"", b"wxyz"), offered)
    assert (status, came) == ((101, frame) if passes else (502, came))
    [request] = world.saw("websocket-says")
    sent = request.header("sec-websocket-extensions")
    assert sent == (offered if offered and "x-other" not in offered else None)
    session.bench.record.write_text("")
