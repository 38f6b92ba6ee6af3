"""What a stream of HTTP/2 means, read as RFC 9113 section 8 has it and in no other way, and sharing nothing with the
guard: a request, or none."""

import re

import reading

_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+")
_VALUE = re.compile(rb"(?:[\x21-\x7e\x80-\xff](?:[\t\x20-\x7e\x80-\xff]*[\x21-\x7e\x80-\xff])?)?")
_METHOD = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Z]+")  # small letters have two readings
_PATH = re.compile(rb"/[\x21-\x7e]*")
_OF_A_CONNECTION = {b"connection", b"transfer-encoding", b"upgrade", b"keep-alive", b"proxy-connection"}
_PSEUDO = {b":method", b":scheme", b":authority", b":path"}
_FRAMING = {"content-length", "transfer-encoding"}


class _Refused(Exception):
    pass


def _must(kept):
    if not kept:
        raise _Refused


def _is_disguised(name):
    return name.decode() not in _FRAMING and re.sub("[^0-9a-z]", "-", name.decode()) in _FRAMING


def _regular(fields):
    for name, value in fields:
        _must(_NAME.fullmatch(name) and _VALUE.fullmatch(value))
        _must(name not in _OF_A_CONNECTION and not _is_disguised(name))
        _must(name != b"te" or value.lower() == b"trailers")


def _pseudo(fields):
    """The pseudo-header fields by name, and the fields behind them."""
    count = next((at for at, (name, _) in enumerate(fields) if not name.startswith(b":")), len(fields))
    found = dict(fields[:count])
    _must(len(found) == count and found.keys() <= _PSEUDO)
    _must(not any(name.startswith(b":") for name, _ in fields[count:]))
    return found, fields[count:]


def _values(fields, name):
    return [value for field, value in fields if field == name]


def _host(found, fields, scheme):
    hosts = _values(fields, b"host")
    named = [found[b":authority"]] if b":authority" in found else []
    _must(len(hosts) <= 1 and len({text.lower() for text in hosts + named}) == 1)
    try:
        return reading._authority((named or hosts)[0], scheme)
    except reading._Unsettled:
        raise _Refused from None


def _body(stream, fields):
    body = stream.body()
    lengths = _values(fields, b"content-length")
    _must(len(lengths) <= 1)
    if lengths:
        _must(re.fullmatch(rb"[0-9]+", lengths[0]) and int(lengths[0]) == len(body))
    _must(stream.finished)
    return body


def _trailers(fields):
    for name, value in fields:
        # Whitespace around a trailer's value is taken off; nobody reads a request there.
        _must(_NAME.fullmatch(name) and _VALUE.fullmatch(value.strip(b" \t")))
        _must(name not in (b"host", b"content-length", b"transfer-encoding") and not _is_disguised(name))


def read(stream, scheme):
    """(the request, as reading.Request has it, or None when no server may see one; the one that was begun only, as its
    head is good and its rest is not)."""
    begun = None
    try:
        found, fields = _pseudo(stream.fields)
        _regular(fields)
        _must(_METHOD.fullmatch(found.get(b":method", b"")) and found[b":method"] != b"CONNECT")
        _must(found.get(b":scheme") == scheme.encode())
        path = found.get(b":path", b"")
        asterisk = path == b"*" and found[b":method"] == b"OPTIONS"
        _must(asterisk or _PATH.fullmatch(path))
        host = _host(found, fields, scheme)
        target = path if asterisk else reading.canonical_target(path)
        begun = reading.Request(found[b":method"].decode(), target.decode(), host, b"")
        body = _body(stream, fields)
        _trailers(stream.trailers or [])
    except _Refused:
        return None, begun
    begun.body = body
    return begun, None
