#!/usr/bin/env python3
"""Writes vectors.json beside it: tags that every implementation makes and takes, and texts that none takes. A second
implementation of tag.h, from its description alone. `vectors.py --check` says whether the file is what this writes."""

import base64
import hashlib
import hmac
import json
import pathlib
import sys

FILE = pathlib.Path(__file__).resolve().parent / "vectors.json"
NOW = 1_800_000_000
LIFETIME, SKEW = 900, 60
GUARD, REQUEST = bytes(range(16)), bytes(range(0xF0, 0x100))
KEYS = {
    "current": ("shop", hashlib.sha256(b"sallyport test key 1").digest()),
    "previous": ("shop", hashlib.sha256(b"sallyport test key 2").digest()),
    "other": ("bank", hashlib.sha256(b"sallyport test key 3").digest()),
}


def mac(key, text):
    return hmac.new(key, text, hashlib.sha256).digest()


def key_id(key):
    return mac(key, b"sallyport-tag key id")[:4]


def answers(key):
    return mac(key, b"sallyport-tag answers")


def b64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def payload(key, guard=GUARD, request=REQUEST, issued=NOW, application="shop", function="resize"):
    names = b"".join(bytes([len(name)]) + name.encode() for name in (application, function))
    return key_id(key) + guard + request + issued.to_bytes(8, "big") + names


def signed(key, data, version="v1"):
    text = f"{version}.{b64(data)}"
    return f"{text}.{b64(mac(key, text.encode()))}"


def good():
    cases = {
        "ordinary": ("current", {}),
        "a rotated key": ("previous", {}),
        "another application": ("other", {"application": "bank", "function": "transfer.v2"}),
        "zeros": ("current", {"guard": bytes(16), "request": bytes(16)}),
        "the longest names": ("current", {"function": "f" * 253}),
        "the shortest names": ("current", {"function": "f"}),
        "as old as may be": ("current", {"issued": NOW - LIFETIME}),
        "as new as may be": ("current", {"issued": NOW + SKEW}),
    }
    for name, (key, fields) in cases.items():
        secret = KEYS[key][1]
        full = {"guard": GUARD, "request": REQUEST, "issued": NOW, "application": "shop", "function": "resize"} | fields
        yield {
            "name": name,
            "key": key,
            "guard": full["guard"].hex(),
            "request": full["request"].hex(),
            "issued": full["issued"],
            "application": full["application"],
            "function": full["function"],
            "text": signed(secret, payload(secret, **full)),
        }


def bad():
    key = KEYS["current"][1]
    text = signed(key, payload(key))
    version, data, tail = text.split(".")
    raw = payload(key)
    yield "empty", "malformed", ""
    yield "no version", "malformed", f"{data}.{tail}"
    yield "another version", "malformed", signed(key, raw, "v2")
    yield "a version in upper case", "malformed", "V1" + text[2:]
    yield "no MAC", "malformed", f"v1.{data}"
    yield "an empty MAC", "malformed", f"v1.{data}."
    yield "half a MAC", "malformed", f"v1.{data}.{b64(mac(key, f'v1.{data}'.encode())[:16])}"
    yield "a part more", "malformed", text + ".x"
    yield "padding", "malformed", text + "="
    yield "white space", "malformed", " " + text
    yield "the other base64", "malformed", f"v1.{data}.{base64.b64encode(b'~' * 31 + b'?').decode().rstrip('=')}"
    yield "bits behind the MAC", "malformed", text[:-1] + chr(ord(text[-1]) + 1)
    yield "too long", "malformed", "v1." + "A" * 700 + "." + tail
    yield "a key that is not known", "unverified", signed(b"x" * 32, payload(b"x" * 32))
    yield "the tag of an answer", "unverified", signed(answers(key), payload(answers(key)))
    yield "the MAC of another key", "unverified", signed(KEYS["previous"][1], raw)
    yield "the MAC of another tag", "unverified", f"v1.{b64(payload(key, function='admin'))}.{tail}"
    yield "the MAC of the payload alone", "unverified", f"v1.{data}.{b64(mac(key, raw))}"
    yield "another application than the key's", "unverified", signed(key, payload(key, application="bank"))
    yield "a byte behind the payload", "malformed", signed(key, raw + b"x")
    yield "a byte too few", "malformed", signed(key, raw[:-1])
    yield "only a key id", "malformed", signed(key, raw[:4])
    yield "an empty function", "malformed", signed(key, payload(key, function=""))
    yield "a function in upper case", "malformed", signed(key, payload(key, function="Resize"))
    yield "a function with a line break", "malformed", signed(key, payload(key, function="a\nb"))
    yield "seconds past all clocks", "malformed", signed(key, payload(key, issued=(1 << 64) - 1))
    yield "too old", "timeout", signed(key, payload(key, issued=NOW - LIFETIME - 1))
    yield "from the future", "invalid", signed(key, payload(key, issued=NOW + SKEW + 1))


def document():
    return {
        "now": NOW,
        "keys": {
            name: {
                "application": application,
                "key": key.hex(),
                "id": key_id(key).hex(),
                "answers_id": key_id(answers(key)).hex(),
            }
            for name, (application, key) in KEYS.items()
        },
        "good": list(good()),
        "bad": [{"name": name, "error": error, "text": text} for name, error, text in bad()],
    }


def main():
    text = json.dumps(document(), indent=1) + "\n"
    if "--check" in sys.argv[1:]:
        return 0 if FILE.read_text() == text else "vectors.json is not what vectors.py writes"
    FILE.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
