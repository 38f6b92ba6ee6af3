"""What the bytes of a connection mean, read as RFC 9110 and 9112 have it and in no other way: slowly, with regular
expressions, and sharing nothing with the guard's parser. What one could read in two ways is not read at all.
"""

import dataclasses
import hashlib
import re

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_SPACE = rb"[ \t]*"
_REQUEST_LINE = re.compile(rb"(?:\r\n)?(%s) ([\x21-\x7e]+) HTTP/1\.([01])\r\n" % _TOKEN)
_FIELD = re.compile(rb"(%s):([\t\x20-\x7e\x80-\xff]*)\r\n" % _TOKEN)
_QUOTED = rb'"(?:[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t\x20-\x7e\x80-\xff])*"'
_EXTENSION = rb"%s;%s%s(?:%s=%s(?:%s|%s))?" % (_SPACE, _SPACE, _TOKEN, _SPACE, _SPACE, _TOKEN, _QUOTED)
_CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,16})(?:%s)*\r\n" % _EXTENSION)
_HOST = re.compile(rb"([0-9A-Za-z_.\-]+?)\.?(?::([1-9][0-9]{0,4}))?")
_ABSOLUTE = re.compile(rb"(https?)://([^/?#]+)(/.*)?", re.IGNORECASE)
_FRAMING = {"content-length", "transfer-encoding"}
_DEFAULT_PORT = {"http": 80, "https": 443}


@dataclasses.dataclass
class Request:
    """One request, in the form in which it must reach a server. Without a host it must reach none: it names two."""

    method: str
    target: str
    host: str | None
    body: bytes

    def seen(self):
        """What identifies it in every log: method, target, Host, length and hash of the body."""
        digest = hashlib.sha256(self.body).hexdigest()
        return (self.method, self.target, self.host, len(self.body), digest)


class _Refused(Exception):
    """Nothing that begins here is a request. `begun` is the request whose head is good and whose body is not."""

    begun = None


class _Unsettled(Exception):
    """Where the request ends is plain, and where it goes is not."""


def _fields(data, at):
    found = []
    while not data.startswith(b"\r\n", at):
        line = _FIELD.match(data, at)
        if not line:
            raise _Refused("field")
        found.append((line[1].decode().lower(), line[2].strip(b" \t")))
        at = line.end()
    return found, at + 2


def _values(fields, name):
    return [value for field, value in fields if field == name]


def _length(fields):
    """The length that the head announces, None without one."""
    if any(name not in _FRAMING and re.sub("[^0-9a-z]", "-", name) in _FRAMING for name, _ in fields):
        raise _Refused("a field in disguise")
    lengths = _values(fields, "content-length")
    if not lengths:
        return None
    if len(lengths) != 1 or not re.fullmatch(rb"[0-9]+", lengths[0]) or int(lengths[0]) >= 1 << 63:
        raise _Refused("length")
    return int(lengths[0])


def _is_chunked(fields, minor):
    codings = _values(fields, "transfer-encoding")
    if not codings:
        return False
    if len(codings) != 1 or codings[0].lower() != b"chunked" or minor == b"0":
        raise _Refused("transfer coding")
    return True


def _chunks(data, at):
    body = b""
    while True:
        line = _CHUNK_LINE.match(data, at)
        if not line:
            raise _Refused("chunk")
        size, at = int(line[1], 16), line.end()
        if size == 0:
            trailers, at = _fields(data, at)
            if {"host", *_FRAMING} & {re.sub("[^0-9a-z]", "-", name) for name, _ in trailers}:
                raise _Refused("trailer")
            return body, at
        if data[at + size : at + size + 2] != b"\r\n":
            raise _Refused("end of a chunk")
        body += data[at : at + size]
        at += size + 2


def _exactly(data, at, length):
    if len(data) - at < length:
        raise _Refused("the body is not all there")
    return data[at : at + length], at + length


def _decode(escape):
    byte = bytes([int(escape[1:], 16)])
    return byte if re.fullmatch(rb"[0-9A-Za-z._~\-]", byte) else escape[0:1] + escape[1:].upper()


def canonical_target(raw):
    """Escapes in their one form, dots resolved, an empty query dropped: RFC 3986 section 6.2.2."""
    path, _, query = raw.partition(b"?")
    path, query = (re.sub(rb"%[0-9A-Fa-f]{2}", lambda m: _decode(m[0]), part) for part in (path, query))
    kept = []
    segments = path.split(b"/")[1:]
    for number, segment in enumerate(segments):
        if segment == b"..":
            kept = kept[:-1]
        elif segment != b".":
            kept.append(segment)
        if segment in (b".", b"..") and number == len(segments) - 1:
            kept.append(b"")
    return b"/" + b"/".join(kept) + (b"?" + query if query else b"")


def _authority(raw, scheme):
    """The host, with the port if it is not the scheme's own."""
    parts = _HOST.fullmatch(raw)
    if not parts:
        raise _Unsettled("host")
    port = int(parts[2] or _DEFAULT_PORT[scheme])
    return parts[1].decode().lower() + ("" if port == _DEFAULT_PORT[scheme] else f":{port}")


def _destination(method, target, fields, minor, scheme, dialled):
    hosts = _values(fields, "host")
    if len(hosts) > 1 or (not hosts and minor == b"1"):
        raise _Refused("one Host")
    host = _authority(hosts[0], scheme) if hosts else dialled
    if target == b"*" and method == b"OPTIONS":
        return target, host
    absolute = _ABSOLUTE.fullmatch(target)
    if absolute:
        if absolute[1].decode().lower() != scheme or _authority(absolute[2], scheme) != host:
            raise _Unsettled("a URL for another host")
        target = absolute[3] or b"/"
    if not target.startswith(b"/"):
        raise _Unsettled("target")
    return canonical_target(target), host


def _keeps_alive(fields, minor):
    options = [o.strip(b" \t").lower() for v in _values(fields, "connection") for o in v.split(b",")]
    return b"close" not in options and (minor == b"1" or b"keep-alive" in options)


def _one(data, at, scheme, dialled):
    """(request, where the next one begins or None when none may follow)."""
    line = _REQUEST_LINE.match(data, at)
    if not line or line[1].upper() == b"CONNECT":
        raise _Refused("request line")
    method, target, minor = line.groups()
    fields, at = _fields(data, line.end())
    length, chunked = _length(fields), _is_chunked(fields, minor)
    if chunked and length is not None:
        raise _Refused("two framings")
    try:
        target, host = _destination(method, target, fields, minor, scheme, dialled)
    except _Unsettled:
        host = None
    request = Request(method.decode(), target.decode(), host, b"")
    try:
        request.body, at = _chunks(data, at) if chunked else _exactly(data, at, length or 0)
    except _Refused as refused:
        refused.begun = request
        raise
    return request, at if _keeps_alive(fields, minor) else None


def read(data, scheme, dialled):
    """What stands at the front of `data`, sent over a connection to `dialled`: the whole requests; why the reading
    ended: "end", "closed" (the last request said so) or "refused" (no whole request follows); and the request that was
    begun only."""
    requests, at = [], 0
    while at is not None and at < len(data):
        try:
            request, at = _one(data, at, scheme, dialled)
        except _Refused as refused:
            return requests, "refused", refused.begun
        requests.append(request)
    return requests, "closed" if at is None else "end", None
