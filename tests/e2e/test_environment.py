"""What the command finds in its environment: trust for every runtime, nothing of the user's overwritten."""

import pytest

import guard
import lab
from fixtures import need

POLICY = guard.policy(guard.endpoint("v4.example.com"))

# Variables that replace a runtime's roots get the combined bundle; those that add to them get the CA alone.
REPLACING = [
    "SSL_CERT_FILE",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "PIP_CERT",
    "AWS_CA_BUNDLE",
    "GIT_SSL_CAINFO",
    "CARGO_HTTP_CAINFO",
    "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH",
    "PERL_LWP_SSL_CA_FILE",
]
ADDING = ["NODE_EXTRA_CA_CERTS", "DENO_CERT"]


@pytest.fixture(scope="module")
def found(world):
    """The environment inside, with the number of certificates in each file that a variable names."""
    bench = guard.Bench(world)
    with bench.session(policy=POLICY) as session:
        yield session.do(survey, REPLACING + ADDING)
    bench.close()


def survey(names):
    found = {
        "JAVA_TOOL_OPTIONS": os.environ.get("JAVA_TOOL_OPTIONS", ""),
        "SALLYPORT": [n for n in os.environ if "sallyport" in n.lower()],
    }
    for name in names:
        path = os.environ.get(name)
        found[name] = open(path).read().count("BEGIN CERTIFICATE") if path else None
        assert path is None or "PRIVATE KEY" not in open(path).read()
    return found


@pytest.mark.parametrize("name", REPLACING)
def test_replacing_variables_point_to_the_systems_roots_and_ours(found, name):
    with open("/etc/ssl/certs/ca-certificates.crt") as system:
        roots = system.read().count("BEGIN CERTIFICATE")
    assert found[name] == roots + 1


@pytest.mark.parametrize("name", ADDING)
def test_adding_variables_point_to_our_root_alone(found, name):
    assert found[name] == 1


@pytest.mark.parametrize(
    "name", ["SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS", "CURL_CA_BUNDLE", "JAVA_TOOL_OPTIONS", "REQUESTS_CA_BUNDLE"]
)
def test_what_the_user_has_set_is_respected(bench, world, name):
    outcome = bench.python(f"import os; print(os.environ['{name}'])", policy=POLICY, env={name: "-Dset.by=user"})
    assert "-Dset.by=user" in outcome.out
    if name != "JAVA_TOOL_OPTIONS":
        assert outcome.out.strip() == "-Dset.by=user"


def test_options_for_java_are_joined_with_the_users(bench, world):
    outcome = bench.run(["sh", "-c", 'echo "$JAVA_TOOL_OPTIONS"'], policy=POLICY, env={"JAVA_TOOL_OPTIONS": "-Xmx100m"})
    assert "-Xmx100m" in outcome.out and "-Djavax.net.ssl.trustStore=" in outcome.out


def test_the_java_store_can_be_opened_with_the_password_given(user_bench, world):
    outcome = user_bench.python(
        """
        import os, re, subprocess
        options = os.environ["JAVA_TOOL_OPTIONS"]
        path = re.search(r"trustStore=(\\S+)", options)[1]
        password = (re.findall(r"trustStorePassword=(\\S+)", options) or [""])[0]  # a store may have none
        done = subprocess.run(["openssl", "pkcs12", "-in", path, "-nokeys", "-passin", "pass:" + password],
                              capture_output=True, text=True)
        print(done.stdout.count("BEGIN CERTIFICATE"), done.stderr)
    """,
        policy=POLICY,
    )
    assert int(outcome.out.split()[0]) > 100, outcome.out + outcome.err


JAVA = """
import java.net.*;
public class Get {
  public static void main(String[] a) throws Exception {
    System.out.println(((HttpURLConnection) new URL("https://v4.example.com/echo").openConnection()).getResponseCode());
  }
}
"""


def test_java_trusts_the_guard(user_bench, world):
    need("java")
    (user_bench.folder / "Get.java").write_text(JAVA)
    outcome = user_bench.run(["java", "Get.java"], policy=POLICY, timeout=90)
    assert outcome.out.strip() == "200", outcome.err


def test_git_asks_through_the_guard(user_bench, world):
    need("git")
    outcome = user_bench.run(
        ["git", "ls-remote", "https://v4.example.com/status/404/repository.git"],
        policy=POLICY,
        env={"GIT_TERMINAL_PROMPT": "0"},
    )
    assert "not found" in outcome.err, outcome.err
    assert outcome.exchanges and outcome.exchanges[0]["status"] == 404


def test_the_cas_key_is_nowhere_that_the_command_can_read(bench, world):
    outcome = bench.run(
        ["sh", "-c", 'grep -rl "PRIVATE KEY" "$(dirname "$SSL_CERT_FILE")" "$(dirname "$NODE_EXTRA_CA_CERTS")"; true'],
        policy=POLICY,
    )
    assert outcome.out == ""


def test_the_trust_files_are_not_writable_by_others_and_belong_to_the_user(user_bench, world):
    outcome = user_bench.python(
        """
        import os, stat
        found = os.stat(os.environ["SSL_CERT_FILE"])
        print(found.st_uid, found.st_mode & 0o022)
    """,
        policy=POLICY,
    )
    uid = "0" if user_bench.user == "root" else str(lab.ORDINARY_UID)
    assert outcome.out.split() == [uid, "0"], outcome.err


def test_proxy_variables_do_not_lead_around_the_guard(bench, world):
    """A proxy outside is just another destination: the request for it is decided, and refused."""
    outcome = bench.run(
        ["curl", "-sS", "-m", "10", "-o", "/dev/null", "-w", "%{http_code}", "http://v4.example.com/x"],
        policy=POLICY,
        env={"http_proxy": f"http://{lab.OUTSIDE_V4}:8080"},
    )
    assert outcome.out in ("403", "400", "000", "501")
    assert not world.requests()
