"""An application `shop` under a real controller, and real functions that are members of it: `first`, which users call, and
`second`, which `first` calls as NEXT. Tests import what they need, fixtures included."""

import json

import pytest

import guard
import published
from controller import Controller
from published import Published

HOST = "v4.example.com"
NEXT, NEXT_PORT = "next.example.com", 18091
PROBES = [{"path": "/healthz", "methods": ["GET"]}]
TO_NEXT = {"host": NEXT, "tls": False, "port": NEXT_PORT}


def application_graph(*functions):
    """Each as a line of the document: `{name: first, entry: true}`."""
    lines = "".join(f"  - {function}\n" for function in functions)
    return ("apiVersion: sallyport.dev/v1alpha1\nkind: ApplicationGraph\nmetadata: {name: shop}\n"
            f"spec:\n  functions:\n{lines}")


FIRST_THEN_SECOND = application_graph("{name: first, entry: true}", "{name: second, after: [{function: first}]}")


def settings(**spec):
    return json.dumps({"apiVersion": "sallyport.dev/v1alpha1", "kind": "Application", "metadata": {"name": "shop"},
                       "spec": spec})


def checked(*functions):
    """The settings by which each entry of these is asked about."""
    return settings(functions=[{"name": name, "entryChecks": "always"} for name in functions])


def policy(function, *endpoints, **more):
    return guard.policy(guard.endpoint(HOST, name="api"), *endpoints, function=function, inbound={"probes": PROBES}, **more)


def next_function():
    return guard.endpoint(NEXT, scheme="http", ports=[NEXT_PORT], name="next", function="second")


def filled(shop):
    """The controller, with the application in it."""
    shop.do("app", "create", "shop")
    for function in ("first", "second"):
        endpoints = [next_function()] if function == "first" else []
        shop.put("policy", policy(function, *endpoints), function=function)
        (shop.folder / f"{function}.token").write_text(shop.do("token", "create", "-a", "shop", "-f", function))
    return shop


def end(shop):
    assert shop.stop() == 0, shop.said()
    guard.no_sanitizer_report(shop.said())


@pytest.fixture
def shop(tmp_path):
    made = filled(Controller(tmp_path))
    yield made
    end(made)


def flags(shop, function):
    return ["--controller", shop.url, "--controller-ca", shop.data / "ca.pem", "--application", "shop", "--function",
            function, "--join-token-file", shop.folder / f"{function}.token"]


@pytest.fixture
def serve(world, shop):
    """Starts a function; the second listens at `port`."""
    world.dns.table[NEXT] = ["127.0.0.1"]
    started, benches = [], []

    def make(function, port=NEXT_PORT, **options):
        benches.append(guard.Bench(world))
        if function == "second":
            options |= {"publish": f"127.0.0.1:{port}:{published.INSIDE}", "ready": False}
        started.append(Published(benches[-1], None, *flags(shop, function), **options))
        if function == "second":
            started[-1].wait_until_ready(port=port)
        return started[-1]

    yield make
    for one in started:
        one.stop()
    for one in benches:
        one.close()


def guards(shop):
    return json.loads(shop.do("guard", "list", "-o", "json"))["guards"]
