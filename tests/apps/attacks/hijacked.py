"""The handler of a function that an attacker's code has come into, as by a library: what the module ATTACKS says is tried
before and behind the real handler HIJACKED, with the function's own clients and keys. An attack that fails is no reason
to show itself: the function goes on."""

import importlib
import os
import traceback

_module, _, _name = os.environ["HIJACKED"].rpartition(".")
_real = getattr(importlib.import_module(_module), _name)
_attacks = importlib.import_module(os.environ["ATTACKS"])


def attempt(attack, *arguments):
    try:
        attack(*arguments)
    except Exception:
        traceback.print_exc()


def handler(given, more):
    """Of a Lambda function (event, context) or of WSGI (environ, start_response)."""
    for attack in _attacks.BEFORE:
        attempt(attack, given)
    try:
        return _real(given, more)
    finally:
        for attack in _attacks.BEHIND:
            attempt(attack, given)
