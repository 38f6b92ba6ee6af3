"""Tags as the second implementation makes them (policy-engine/tag/vectors.py), for tests that play another guard."""

import base64
import importlib.util
import os
import pathlib
import time

_PATH = pathlib.Path(__file__).resolve().parents[2] / "policy-engine" / "tag" / "vectors.py"
_SPEC = importlib.util.spec_from_file_location("vectors", _PATH)
_vectors = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_vectors)

KEY = os.urandom(32)
FIELD = "Sallyport-Tag"


def make(function="caller", key=KEY, request=None, age=0, application="shop", answer=False):
    key = _vectors.answers(key) if answer else key
    request = request or os.urandom(16)
    data = _vectors.payload(key, os.urandom(16), request, int(time.time()) - age, application, function)
    return _vectors.signed(key, data)


def forged(text):
    """With a MAC of nobody's."""
    return text[:-4] + ("AAAA" if not text.endswith("AAAA") else "BBBB")


def read(text, key=KEY, answer=False):
    """What a tag says; its MAC must be right."""
    key = _vectors.answers(key) if answer else key
    version, data, _ = text.split(".")
    raw = base64.urlsafe_b64decode(data + "=" * (-len(data) % 4))
    assert version == "v1" and _vectors.signed(key, raw) == text, text
    length = raw[44]
    return {
        "guard": raw[4:20],
        "request": raw[20:36],
        "issued": int.from_bytes(raw[36:44], "big"),
        "application": raw[45 : 45 + length].decode(),
        "function": raw[46 + length :].decode(),
    }
