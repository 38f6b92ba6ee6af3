"""Guards that show their pod's service account token: a real controller and real guards, and an API server that answers
TokenReviews as Kubernetes' API reference has them."""

import http.server
import json
import ssl
import subprocess
import threading

import pytest

import certificates
import guard
from controller import BIN, Controller

HOST = "v4.example.com"
OWN_TOKEN = "token-of-the-controller-itself"
AUDIENCE = "sallyport-controller"
SETTINGS = """\
apiVersion: sallyport.dev/v1alpha1
kind: Application
metadata: {name: shop}
spec:
  functions:
  - {name: checkout, serviceAccounts: [prod/checkout, prod/checkout-canary]}
  - {name: mailer, serviceAccounts: [prod/mailer]}
"""


class ApiServer:
    """POST /apis/authentication.k8s.io/v1/tokenreviews. `tokens`: what each stands for; `answer`: instead of all that."""

    def __init__(self, folder):
        authority = certificates.Authority(folder, "cluster")
        certificate, key = authority.issue("apiserver", ["127.0.0.1"], names="IP:127.0.0.1")
        self.ca, self.tokens, self.asked, self.answer, self.down = authority.certificate, {}, [], None, False
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                server.asked.append((self.path, self.headers["Authorization"], body))
                status, answer = server.answer or server.review(self.path, self.headers["Authorization"], body)
                text = json.dumps(answer).encode() if not isinstance(answer, bytes) else answer
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, *_):
                pass

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        self.http.socket = context.wrap_socket(self.http.socket, server_side=True, do_handshake_on_connect=False)
        self.url = f"https://127.0.0.1:{self.http.server_address[1]}"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def review(self, path, authorization, body):
        if authorization != f"Bearer {OWN_TOKEN}":
            return 403, {"kind": "Status", "status": "Failure", "code": 403}
        assert path == "/apis/authentication.k8s.io/v1/tokenreviews"
        assert (body["apiVersion"], body["kind"]) == ("authentication.k8s.io/v1", "TokenReview")
        known = self.tokens.get(body["spec"]["token"])
        if known is None or not set(known["audiences"]) & set(body["spec"]["audiences"]):
            status = {"user": {}, "error": "[invalid bearer token, token lookup failed]"}
        else:
            extra = {"authentication.kubernetes.io/credential-id": ["JTI=7ee52be0"]}
            if "pod" in known:
                extra |= {"authentication.kubernetes.io/pod-name": [known["pod"]],
                          "authentication.kubernetes.io/pod-uid": [f"uid-of-{known['pod']}"]}
            status = {"authenticated": True, "audiences": known["audiences"], "user": {
                "username": known["user"], "uid": "2a1c", "groups": ["system:serviceaccounts"], "extra": extra}}
        return 201, {"kind": "TokenReview", "apiVersion": "authentication.k8s.io/v1", "metadata": {},
                     "spec": body["spec"], "status": status}

    def stop(self):
        self.http.shutdown()
        self.http.server_close()


@pytest.fixture
def cluster(tmp_path):
    made = ApiServer(tmp_path)
    yield made
    made.stop()


@pytest.fixture
def shop(tmp_path, cluster):
    (tmp_path / "own-token").write_text(OWN_TOKEN + "\n")
    made = Controller(tmp_path, config=f"""\
apiVersion: sallyport.dev/v1alpha1
kind: ControllerConfig
spec:
  kubernetes: {{apiServer: "{cluster.url}", caFile: {cluster.ca}, tokenFile: {tmp_path}/own-token}}
""")
    made.do("app", "create", "shop")
    for function in ("checkout", "mailer"):
        made.put("policy", guard.policy(guard.endpoint(HOST, name="api"), function=function), function=function)
    made.put("settings", SETTINGS)
    yield made
    assert made.stop() == 0, made.said()
    guard.no_sanitizer_report(made.said())


@pytest.fixture
def join(world, shop, tmp_path):
    """Runs `true` as a member with a token; its outcome."""
    bench = guard.Bench(world)

    def run(token, function="checkout", command=("true",), **options):
        (tmp_path / "pod-token").write_text(token)
        flags = ["--controller", shop.url, "--controller-ca", shop.data / "ca.pem", "--application", "shop",
                 "--function", function, "--service-account-token-file", tmp_path / "pod-token"]
        return bench.run(command, flags=flags, **options)

    yield run
    bench.close()


def account(name, pod=None, audience=AUDIENCE):
    made = {"user": f"system:serviceaccount:{name}", "audiences": [audience]}
    return made | ({"pod": pod} if pod else {})


def test_a_pod_of_the_functions_service_account_is_a_member(shop, cluster, join, tmp_path):
    cluster.tokens["t1"] = account("prod:checkout", "checkout-7d9f")
    outcome = join("t1", command=["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", f"https://{HOST}/echo"])
    assert (outcome.code, outcome.out) == (0, "200"), outcome.err
    (path, _, body) = cluster.asked[0]
    assert body["spec"] == {"token": "t1", "audiences": [AUDIENCE]}
    assert join("t1", command=["cat", tmp_path / "pod-token"]).out == ""
    # What was confirmed is believed for a minute.
    assert len(cluster.asked) == 1
    assert "t1" not in shop.said() and OWN_TOKEN not in shop.said()


@pytest.mark.parametrize(
    "token, function, text",
    [
        ("unknown", "checkout", "Kubernetes does not know the service account's token"),
        ("mailer", "checkout", "the service account prod/mailer is none of the function 'checkout'"),
        ("other-space", "checkout", "the service account dev/checkout is none of the function"),
        ("checkout", "mailer", "the service account prod/checkout is none of the function 'mailer'"),
        ("checkout", "no-such", "is none of the function 'no-such'"),
        ("for-others", "checkout", "Kubernetes does not know"),
        ("a-person", "checkout", "the token is not of a service account"),
        ("two-colons", "checkout", "the token is not of a service account"),
    ],
)
def test_others_are_not_believed(cluster, join, token, function, text):
    cluster.tokens |= {
        "mailer": account("prod:mailer"), "checkout": account("prod:checkout"), "other-space": account("dev:checkout"),
        "for-others": account("prod:checkout", audience="vault"),
        "a-person": {"user": "kubernetes-admin", "audiences": [AUDIENCE]},
        "two-colons": account("prod:checkout:x"),
    }
    outcome = join(token, function)
    assert outcome.code == 125 and "CREDENTIAL" in outcome.err and text in outcome.err, outcome.err


def reviewed(audiences=(AUDIENCE,), authenticated=True, user="system:serviceaccount:prod:checkout"):
    status = {"authenticated": authenticated, "user": {"username": user}, "audiences": list(audiences)}
    return {"kind": "TokenReview", "apiVersion": "authentication.k8s.io/v1", "status": status}


@pytest.mark.parametrize(
    "answer, text",
    [
        ((201, reviewed(audiences=[])), "is not for the audience"),
        ((201, reviewed(audiences=["other"])), "is not for the audience"),
        ((201, reviewed(authenticated=False)), "does not know"),
        ((201, {}), "does not know"),
        ((201, b"no JSON"), "is no TokenReview"),
        ((201, b'{"status": {"authenticated": true, "user": []}}'), "is no TokenReview"),
    ],
)
def test_an_answer_that_does_not_confirm_it_is_a_refusal(cluster, join, answer, text):
    cluster.answer = answer
    outcome = join("t")
    assert outcome.code == 125 and "CREDENTIAL" in outcome.err and text in outcome.err, outcome.err


@pytest.mark.parametrize(
    "answer, text",
    [
        ((403, {"kind": "Status"}), "system:auth-delegator"),
        ((500, {"kind": "Status"}), "the API server answered 500"),
        ((201, b"{" + b" " * 100_000 + b"}"), "its answer is too large"),
    ],
)
def test_an_api_server_that_can_not_be_asked_believes_nobody_and_is_asked_again(shop, cluster, join, answer, text):
    cluster.tokens["t1"] = account("prod:checkout")
    cluster.answer = answer
    recovery = threading.Timer(2.5, lambda: setattr(cluster, "answer", None))
    recovery.start()
    outcome = join("t1")
    recovery.join()
    assert outcome.code == 0, outcome.err
    assert text in shop.said()
    assert len(cluster.asked) > 1


def test_without_an_api_server_nobody_is_believed(shop, cluster, join):
    cluster.tokens["t1"] = account("prod:checkout")
    cluster.stop()
    outcome = join("t1")
    assert outcome.code == 125 and "nothing was run" in outcome.err, outcome.err


def test_a_join_token_is_still_good_beside_it_and_a_service_account_without_it_is_not(tmp_path, world):
    controller = Controller(tmp_path)
    controller.do("app", "create", "shop")
    controller.put("policy", guard.policy(guard.endpoint(HOST, name="api"), function="checkout"), function="checkout")
    (tmp_path / "pod-token").write_text("t1")
    bench = guard.Bench(world)
    outcome = bench.run(["true"], flags=["--controller", controller.url, "--controller-ca", controller.data / "ca.pem",
                                         "--application", "shop", "--function", "checkout",
                                         "--service-account-token-file", tmp_path / "pod-token"])
    assert outcome.code == 125 and "this controller believes no service accounts" in outcome.err, outcome.err
    bench.close()
    assert controller.stop() == 0


def test_another_pods_guard_id_is_worth_nothing(shop, cluster, join):
    """The id is kept for the same subject alone, and the subject has the pod in it."""
    cluster.tokens |= {"a": account("prod:checkout", "a"), "b": account("prod:checkout", "b")}
    join("a")
    join("b")
    known = json.loads(shop.do("guard", "list", "-o", "json"))["guards"]
    assert {each["credential"] for each in known} == {
        "service account prod/checkout, pod a uid-of-a", "service account prod/checkout, pod b uid-of-b"}


@pytest.mark.parametrize(
    "text, wrong",
    [
        ("apiServer: 'http://127.0.0.1:1'", "the API server 'http://127.0.0.1:1' is not valid"),
        ("caFile: /x", "there is no apiServer, and this is no pod"),
        ("{apiServer: 'https://127.0.0.1:1', audience: ''}", "a field of kubernetes is empty"),
    ],
)
def test_a_configuration_that_can_not_be_is_refused_with_its_place(tmp_path, text, wrong):
    config = tmp_path / "c.yaml"
    text = text if text.startswith("{") else "{" + text + "}"
    config.write_text(f"apiVersion: sallyport.dev/v1alpha1\nkind: ControllerConfig\nspec:\n  kubernetes: {text}\n")
    done = subprocess.run([BIN / "sallyport-controller", "--config", config, "--data", tmp_path / "d", "--check"],
                          capture_output=True, text=True, timeout=20)
    assert done.returncode == 2 and f"{config}:4:" in done.stderr and wrong in done.stderr, done.stderr


def test_settings_with_a_service_account_that_is_none_are_refused_with_their_place(shop):
    wrong = SETTINGS.replace("prod/mailer", "mailer")
    done = shop.cli("app", "put-settings", "-", "-a", "shop", input=wrong)
    assert done.returncode == 1 and ":7:" in done.stderr and "the service account 'mailer' is not valid" in done.stderr


def test_a_dozen_pods_at_once_are_all_reviewed(shop, cluster, world, tmp_path):
    """A controller that comes back: everybody connects at once. Few are asked about at a time, and nobody is left out."""
    benches, processes = [], []
    for number in range(12):
        cluster.tokens[f"t{number}"] = account("prod:checkout", f"pod{number}")
        (tmp_path / f"pod{number}").write_text(f"t{number}")
        benches.append(guard.Bench(world))
        processes.append(benches[-1].start(["true"], flags=[
            "--controller", shop.url, "--controller-ca", shop.data / "ca.pem", "--application", "shop", "--function",
            "checkout", "--service-account-token-file", tmp_path / f"pod{number}"]))
    for process in processes:
        assert process.wait(60) == 0, process.stderr.read()
    for bench in benches:
        bench.close()
    assert {body["spec"]["token"] for _, _, body in cluster.asked} == {f"t{n}" for n in range(12)}
