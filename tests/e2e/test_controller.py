"""`sallyport-controller`: starting it, administering it, and what it refuses, with the real process and real clients."""

import json
import os
import pathlib
import re
import signal
import socket
import ssl
import stat
import subprocess
import threading
import time

import pytest
import yaml

import certificates
from controller import BIN, Controller, eventually

pytestmark = pytest.mark.skipif(not os.environ.get("SALLYPORT_BIN"),
                                reason="SALLYPORT_BIN does not name the folder of the built programs")

POLICY = """\
apiVersion: sallyport.dev/v1alpha1
kind: EgressPolicy
metadata: {name: checkout}
spec:
  endpoints:
  - {name: api, host: api.example.com, rules: [{methods: [GET], path: {prefix: /}}]}
"""

GRAPH = """\
apiVersion: sallyport.dev/v1alpha1
kind: ApplicationGraph
metadata: {name: shop}
spec:
  functions:
  - {name: checkout, entry: true}
  - {name: mail, instancesMax: 3, after: [{function: checkout}]}
"""

FLOW = """\
apiVersion: sallyport.dev/v1alpha1
kind: FlowGraph
metadata: {name: checkout}
spec:
  entry: [pay]
  nodes:
  - {name: pay, request: POST api.example.com/pay, next: [exit]}
"""
FLOW_RULE = "  flow: checkout.graph.yaml\n"


@pytest.fixture
def controller(tmp_path):
    made = Controller(tmp_path)
    yield made
    assert made.stop() == 0, made.said()
    assert "ERROR: " not in made.said(), made.said()  # of a sanitizer


@pytest.fixture
def shop(controller):
    controller.do("app", "create", "shop")
    return controller


def test_it_starts_with_nothing_but_a_folder_and_keeps_its_secrets_for_its_owner(controller):
    for name in ("admin-token", "ca.key", "secrets.key", "controller.db"):
        assert stat.S_IMODE((controller.data / name).stat().st_mode) == 0o600, name
    assert stat.S_IMODE(controller.data.stat().st_mode) == 0o700
    assert controller.scrape("/healthz") == (200, "ok\n")
    assert controller.metric("store_up") == 1


def test_what_was_put_is_there_after_it_was_killed(shop):
    shop.put("policy", POLICY, function="checkout")
    shop.put("application-graph", GRAPH)
    shop.do("secret", "put", "stripe", "-a", "shop", input="sk-live-1\n")
    token = shop.do("token", "create", "-a", "shop", "-f", "checkout")
    assert re.fullmatch(r"sallyport-join-v1\.[0-9a-f]{16}\.[A-Za-z0-9_-]{43}\n", token)
    shop.kill()
    shop.start()
    assert shop.do("policy", "get", "-a", "shop", "-f", "checkout") == POLICY
    assert shop.do("app", "get-graph", "-a", "shop") == GRAPH
    shown = shop.do("app", "show", "shop")
    assert "mail      0          3" in shown and "secret stripe" in shown
    assert "sk-live-1" not in shown + shop.said()
    database = b"".join(each.read_bytes() for each in shop.data.iterdir() if each.name.startswith("controller.db"))
    assert b"sk-live-1" not in database, "secrets are sealed"
    assert token.strip().encode() not in database, "of tokens only the hash is kept"


def test_each_change_is_a_version_and_can_be_taken_back(shop):
    shop.put("policy", POLICY, function="checkout")
    shop.put("policy", POLICY.replace("GET", "POST"), function="checkout")
    assert shop.do("policy", "rollback", "-a", "shop", "-f", "checkout") == "version 3 is in force\n"
    assert shop.do("policy", "get", "-a", "shop", "-f", "checkout") == POLICY
    assert "POST" in shop.do("policy", "get", "-a", "shop", "-f", "checkout", "--version", "2")
    history = shop.do("policy", "history", "-a", "shop", "-f", "checkout").splitlines()
    assert [line.split()[0] for line in history] == ["VERSION", "3", "2", "1"]
    audit = shop.do("audit")
    assert audit.count("shop/checkout policy") == 3


def test_what_is_taken_away_is_a_version_too_and_comes_back(shop):
    of = ["-a", "shop", "-f", "checkout"]
    nothing = shop.cli("policy", "drop", *of)
    assert (nothing.returncode, nothing.stderr) == (1, "sallyport: there is no shop/checkout policy\n")
    shop.put("policy", POLICY, function="checkout")
    assert shop.do("policy", "drop", *of) == "it is taken away, which is version 2\n"
    assert shop.cli("policy", "get", *of).returncode == 1
    assert "there is no shop/checkout policy" in shop.cli("policy", "drop", *of).stderr
    assert "taken away" in shop.do("policy", "history", *of).splitlines()[1]
    assert shop.do("policy", "rollback", *of) == "version 3 is in force\n"
    assert shop.do("policy", "get", *of) == POLICY
    assert "there is no shop application-graph" in shop.cli("app", "drop-graph", "-a", "shop").stderr
    shop.put("application-graph", GRAPH)
    assert shop.do("app", "drop-graph", "-a", "shop") == "it is taken away, which is version 2\n"
    assert "take away" in shop.do("audit")


def test_an_application_goes_with_all_that_is_of_it_but_the_audit(shop):
    shop.put("policy", POLICY, function="checkout")
    shop.do("secret", "put", "stripe", "-a", "shop", input="sk-live-1\n")
    shop.do("token", "create", "-a", "shop")
    trusted = shop.do("app", "get-ca", "-a", "shop")
    assert shop.do("app", "delete", "shop") == "the application shop is gone\n"
    assert shop.do("app", "list") == ""
    again = shop.cli("app", "delete", "shop")
    assert (again.returncode, again.stderr) == (
        1, "sallyport: there is no application 'shop'; sallyport app create makes one\n")
    assert "delete" in shop.do("audit").splitlines()[-1]
    shop.kill()
    shop.start()
    assert shop.do("app", "list") == ""
    shop.do("app", "create", "shop")
    assert "secret" not in shop.do("app", "show", "shop")
    assert shop.do("policy", "list", "-a", "shop").splitlines()[1:] == []
    assert shop.do("app", "get-ca", "-a", "shop") != trusted


def test_a_flow_graph_stays_as_long_as_the_policy_needs_it(shop):
    of = ["-a", "shop", "-f", "checkout"]
    shop.put("graph", FLOW, function="checkout")
    shop.put("policy", POLICY + FLOW_RULE, function="checkout")
    refused = shop.cli("function", "drop-graph", *of)
    assert refused.returncode == 1
    assert refused.stderr == ("the document: error: the flow rule of the function's policy needs it "
                              "(hint: put a policy without a flow rule first: sallyport policy put FILE)\n"
                              "sallyport: nothing has changed\n")
    assert shop.do("function", "get-graph", *of) == FLOW
    shop.put("policy", POLICY, function="checkout")
    shop.do("function", "drop-graph", *of)


def test_a_document_with_errors_changes_nothing_and_each_is_named(shop):
    shop.put("policy", POLICY, function="checkout")
    refused = shop.cli("policy", "put", "-", "-a", "shop", "-f", "checkout",
                       input=POLICY.replace("prefix", "prefixx"))
    assert refused.returncode == 1
    assert "-:6:72: error: unknown field 'prefixx' in a path (hint: did you mean 'prefix'?)" in refused.stderr
    assert shop.do("policy", "get", "-a", "shop", "-f", "checkout") == POLICY


@pytest.mark.parametrize("kind, text, told", [
    ("application-graph", GRAPH.replace("function: checkout}", "function: chekout}"), "did you mean 'checkout'"),
    ("application-graph", GRAPH.replace("name: shop", "name: shed"), "it is of the application 'shed'"),
    ("settings", "apiVersion: sallyport.dev/v1alpha1\nkind: Application\nmetadata: {name: shop}\n"
                 "spec:\n  lifetime: soon\n", ":5:13: error: the lifetime 'soon' is not valid"),
    ("settings", "apiVersion: sallyport.dev/v1alpha1\nkind: Application\nmetadata: {name: shop}\n"
                 "spec:\n  limits:\n  - {name: all, rate: many}\n", ":6:23: error: the rate 'many' is not valid"),
    ("settings", "apiVersion: sallyport.dev/v1alpha1\nkind: Application\nmetadata: {name: shop}\n"
                 "spec:\n  limits:\n  - {name: all, rate: 1/s, requests: [GET]}\n", ":6:"),
    ("settings", "apiVersion: sallyport.dev/v1alpha1\nkind: Application\nmetadata: {name: other}\n", "'other'"),
])
def test_bad_documents_of_an_application_are_refused_at_their_place(shop, kind, text, told):
    command = {"application-graph": "put-graph", "settings": "put-settings"}[kind]
    refused = shop.cli("app", command, "-", "-a", "shop", input=text)
    assert refused.returncode == 1 and told in refused.stderr, refused.stderr


def test_two_who_change_one_document_do_not_overwrite_each_other(shop):
    shop.put("policy", POLICY, function="checkout")
    target = "/v1/applications/shop/functions/checkout/policy"
    status, headers, _ = shop.api("GET", target)
    assert (status, headers["etag"]) == (200, '"1"')
    assert shop.api("PUT", target, POLICY.replace("GET", "PUT"), headers={"If-Match": '"1"'})[0] == 200
    status, _, problem = shop.api("PUT", target, POLICY.replace("GET", "HEAD"), headers={"If-Match": '"1"'})
    assert status == 412 and "version is 2 and not 1" in problem["error"]


def test_nobody_administers_it_without_a_token_and_viewers_change_nothing(tmp_path):
    (tmp_path / "viewer").write_text("a-token-of-somebody-who-looks\n")
    controller = Controller(tmp_path, config=f"""\
apiVersion: sallyport.dev/v1alpha1
kind: ControllerConfig
spec:
  administrators:
  - {{name: eve, role: viewer, tokenFile: {tmp_path}/viewer}}
""")
    eve = "a-token-of-somebody-who-looks"
    assert controller.api("PUT", "/v1/applications/shop", token="not-a-token")[0] == 401
    assert controller.api("PUT", "/v1/applications/shop", token=eve)[0] == 403
    assert controller.api("PUT", "/v1/applications/shop")[0] == 201
    status, _, shown = controller.api("GET", "/v1/applications", token=eve)
    assert (status, shown) == (200, {"applications": ["shop"]})
    assert controller.api("DELETE", "/v1/tokens/0", token=eve)[0] == 403
    assert controller.stop() == 0


@pytest.mark.parametrize("method, target, body, status, told", [
    ("GET", "/v1/applications/none", None, 404, "no application 'none'"),
    ("PUT", "/v1/applications/UPPER", None, 400, "not valid"),
    ("PUT", "/v1/applications/shop", None, 409, "already"),
    ("GET", "/v1/applications/shop/functions/none/policy", None, 404, "no such document"),
    ("GET", "/v1/applications/shop/settings?version=x", None, 400, "a number"),
    ("PUT", "/v1/applications/shop/settings", "", 400, "empty"),
    ("PUT", "/v1/applications/shop/secrets/a%20b", "x", 400, "not valid"),
    ("PUT", "/v1/applications/shop/secrets/a", "x\ny", 400, "more than one line"),
    ("DELETE", "/v1/applications/shop/secrets/none", None, 404, "no secret"),
    ("POST", "/v1/applications/shop/tokens", '{"functio": "x"}', 400, "functio"),
    ("POST", "/v1/applications/shop/tokens", '{"ends": "2001-01-01T00:00:00Z"}', 400, "ended already"),
    ("DELETE", "/v1/tokens/none", None, 404, "no join token"),
    ("GET", "/v1/applications/shop/events?since=yesterday", None, 400, "2026-01-31T12:00:00Z"),
    ("GET", "/v1/applications/shop/events?decision=maybe", None, 400, "would-deny"),
    ("GET", "/v1/applications/shop/events?colour=red", None, 400, "no parameter colour"),
    ("GET", "/v1/applications/shop/events?limit=0", None, 400, "1 to"),
    ("GET", "/v1/applications/none/events", None, 404, "no application"),
    ("POST", "/v1/applications/shop/settings/rollback", None, 404, "before the newest"),
    ("POST", "/v1/guards", None, 405, "POST"),
    ("GET", "/v2/guards", None, 404, "no such call"),
    ("GET", "/v1/guards/%zz", None, 400, "can't be read"),
])
def test_bad_calls_are_told_what_is_wrong(shop, method, target, body, status, told):
    answered, _, text = shop.api(method, target, body)
    assert answered == status and told in (text["error"] if isinstance(text, dict) else text), (answered, text)


def test_a_body_that_is_too_large_is_refused(shop):
    status, _, told = shop.api("PUT", "/v1/applications/shop/settings", "x" * (2 << 20))
    assert status == 413 and "at most" in told


def test_every_call_of_the_description_is_there(shop):
    described = yaml.safe_load((pathlib.Path(__file__).parents[2] / "docs/openapi.yaml").read_text())
    calls = [(method, path) for path, item in described["paths"].items() for method in item if method != "parameters"]
    assert len(calls) == 38
    for method, path in calls:
        target = path.format(application="NONE", function="none", name="none", id="none")
        status, _, body = shop.api(method.upper(), target)
        assert status != 405 and "no such call" not in str(body), (method, path, status, body)
        if "{application}" in path and method in ("get", "delete"):
            assert status == 404 and "no application 'NONE'" in body["error"], (method, path, status, body)


@pytest.mark.parametrize("config, told", [
    ("spec: {}", "apiVersion"),
    ("apiVersion: sallyport.dev/v1alpha1\nkind: ControllerConfig\nspec: {dta: x}\n", "did you mean 'data'"),
    ("apiVersion: sallyport.dev/v1alpha1\nkind: EgressPolicy\nspec: {data: x}\n", "kind: ControllerConfig"),
    ("apiVersion: sallyport.dev/v1alpha1\nkind: ControllerConfig\nspec: {data: x, threads: 0}\n", "from 1 to 64"),
    ("apiVersion: sallyport.dev/v1alpha1\nkind: ControllerConfig\nspec: {data: x, retentionDays: 0}\n", "from 1 to"),
    ("apiVersion: sallyport.dev/v1alpha1\nkind: ControllerConfig\nspec: {data: x, storeBytesMax: 9}\n", "at least 67108864"),
    ("apiVersion: sallyport.dev/v1alpha1\nkind: ControllerConfig\nspec:\n  data: x\n  administrators:\n"
     "  - {name: a b, tokenFile: t}\n", ":6:12: error: the administrator's name 'a b' is not valid"),
    ("apiVersion: sallyport.dev/v1alpha1\nkind: ControllerConfig\nspec:\n  data: x\n  store: redis://a:b@c\n",
     ":5:10: error: the store's URL: a password does not belong into it"),
    ("apiVersion: sallyport.dev/v1alpha1\nkind: ControllerConfig\nspec: {}\n", "--data DIR"),
])
def test_a_bad_configuration_is_refused_at_its_place(tmp_path, config, told):
    (tmp_path / "controller.yaml").write_text(config)
    done = subprocess.run([BIN / "sallyport-controller", "--config", tmp_path / "controller.yaml", "--check"],
                          capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and told in done.stderr, done.stderr


def test_two_controllers_do_not_share_a_folder(controller):
    second = subprocess.run([BIN / "sallyport-controller", "--data", controller.data, "--listen", "127.0.0.1:0",
                             "--admin-listen", "127.0.0.1:0"], capture_output=True, text=True, timeout=60)
    assert second.returncode == 125 and "another controller uses this folder" in second.stderr


def test_the_one_command_for_people_runs_it_too(tmp_path):
    done = subprocess.run([BIN / "sallyport", "controller", "run", "--data", tmp_path / "data", "--listen", "nowhere"],
                          capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and done.stderr.startswith("sallyport-controller: listen nowhere"), done.stderr
    assert "--admin-listen" in subprocess.run([BIN / "sallyport", "controller", "run", "--help"], capture_output=True,
                                              text=True, timeout=60).stdout


def test_a_short_token_is_refused(tmp_path):
    (tmp_path / "token").write_text("secret\n")
    (tmp_path / "controller.yaml").write_text(f"""\
apiVersion: sallyport.dev/v1alpha1
kind: ControllerConfig
spec:
  data: {tmp_path}/data
  administrators: [{{name: eve, tokenFile: {tmp_path}/token}}]
""")
    done = subprocess.run([BIN / "sallyport-controller", "--config", tmp_path / "controller.yaml"],
                          capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and "too short" in done.stderr


def test_the_command_says_what_is_missing_to_reach_it(controller, tmp_path):
    without = subprocess.run([BIN / "sallyport", "app", "list"], capture_output=True, text=True, timeout=60,
                             env={"PATH": os.environ["PATH"]})
    assert without.returncode == 1 and "--token-file FILE is needed" in without.stderr
    other_ca = subprocess.run([BIN / "sallyport", "app", "list", "--controller", controller.admin_url, "--token-file",
                               controller.data / "admin-token"], capture_output=True, text=True, timeout=60)
    assert other_ca.returncode == 1 and controller.admin_url in other_ca.stderr
    nobody = controller.cli("app", "list", "--controller", "https://127.0.0.1:1")
    assert nobody.returncode == 1 and "https://127.0.0.1:1" in nobody.stderr
    assert "https://HOST:PORT" in controller.cli("app", "list", "--controller", "127.0.0.1:1").stderr


def test_strangers_keep_nobody_else_from_administering(shop):
    """Connections that say nothing, half a request, a request that never ends."""
    context = ssl.create_default_context(cafile=shop.data / "ca.pem")
    held = []
    for number in range(40):
        raw = socket.create_connection(("127.0.0.1", shop.admin_port))
        if number % 2:
            raw = context.wrap_socket(raw, server_hostname="127.0.0.1")
            raw.sendall(b"GET /v1/guards HTTP/1.1\r\nHost: x\r\n")
        held.append(raw)
    assert json.loads(shop.do("guard", "list", "-o", "json")) == {"guards": []}
    for each in held:
        each.close()


def test_many_changes_at_once_are_all_there(shop):
    def change(number):
        shop.do("secret", "put", f"s{number}", "-a", "shop", input="x" * 20)

    threads = [threading.Thread(target=change, args=[number]) for number in range(12)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    shown = shop.do("app", "show", "shop")
    assert all(f"secret s{number}" in shown for number in range(12))


def test_a_new_tag_key_verifies_before_it_makes_tags(shop):
    shop.do("app", "rotate-key", "shop")
    keys = shop.api("GET", "/v1/applications/shop")[2]["tagKeys"]
    assert [(each["number"], each["makes"]) for each in keys] == [(2, False), (1, True)]
    last = time.monotonic() + 20
    while time.monotonic() < last:
        keys = shop.api("GET", "/v1/applications/shop")[2]["tagKeys"]
        if keys[0]["makes"]:
            break
        time.sleep(0.5)
    assert [each["makes"] for each in keys] == [True, False]


def shown_by(port, ca):
    context = ssl.create_default_context(cafile=ca)
    with socket.create_connection(("127.0.0.1", port), timeout=10) as stream:
        with context.wrap_socket(stream, server_hostname="127.0.0.1") as tls:
            return tls.getpeercert()["serialNumber"]


def test_a_certificate_that_is_replaced_is_shown_without_a_restart(tmp_path):
    authority = certificates.Authority(tmp_path, "company")

    def issue(name):
        certificate, key = authority.issue(name, ["127.0.0.1"], names="IP:127.0.0.1")
        (tmp_path / "tls.key").write_bytes(key.read_bytes())
        (tmp_path / "tls.pem").write_bytes(certificate.read_bytes())

    issue("first")
    controller = Controller(tmp_path, config=f"""\
apiVersion: sallyport.dev/v1alpha1
kind: ControllerConfig
spec:
  tls: {{certificate: {tmp_path}/tls.pem, key: {tmp_path}/tls.key}}
""")
    ports = controller.port, controller.admin_port

    def serials():
        return {shown_by(port, authority.certificate) for port in ports}

    first = serials()
    assert len(first) == 1
    (tmp_path / "tls.pem").write_text("no certificate")
    controller.process.send_signal(signal.SIGHUP)
    eventually(lambda: "the certificate before goes on to be shown" in controller.said(), "it is not said")
    assert serials() == first
    issue("second")
    controller.process.send_signal(signal.SIGHUP)
    eventually(lambda: len(serials()) == 1 and serials() != first, "the first is still shown")
    second = serials()
    issue("third")
    eventually(lambda: len(serials()) == 1 and serials() != second, "it has not looked", timeout=20)
    assert controller.stop() == 0, controller.said()


def test_its_own_certificate_is_made_anew_when_it_is_told(tmp_path):
    controller = Controller(tmp_path)
    ca = controller.data / "ca.pem"
    first = shown_by(controller.port, ca)
    controller.process.send_signal(signal.SIGHUP)
    eventually(lambda: shown_by(controller.port, ca) != first, "it is the same")
    assert shown_by(controller.admin_port, ca) != first
    assert controller.stop() == 0, controller.said()
