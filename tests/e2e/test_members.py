"""Guards that are members of an application: real functions under `sallyport run --controller`, and a real controller."""

import collections
import threading
import time

import guard
import published
import tags
from controller import eventually
from members import FIRST_THEN_SECOND, HOST, NEXT_PORT, PROBES, TO_NEXT, application_graph, checked, flags, guards, settings
from members import serve, shop  # noqa: F401
from published import ask

SECRET = "sk-of-the-controller-1"


def test_a_command_does_what_its_function_may_and_all_of_it_is_told(shop, world):
    bench = guard.Bench(world)
    outcome = bench.run(["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}\n", f"https://{HOST}/echo",
                         "--next", "-s", "-o", "/dev/null", "-w", "%{http_code}\n", "https://v4-other.example.com/"],
                        flags=flags(shop, "first"))
    assert outcome.out.splitlines()[0] == "200", outcome.err
    told = eventually(lambda: [e for e in shop.events() if e["kind"] == "execution-ended"] and shop.events(), "no end")
    kinds = collections.Counter(event["kind"] for event in told)
    assert kinds["execution-began"] == kinds["execution-ended"] == 1 and kinds["exchange"] >= 1
    (sent,) = [e for e in told if e["kind"] == "exchange" and e["path"] == "/echo"]
    assert (sent["decision"], sent["method"], sent["host"], sent["status"]) == ("allow", "GET", HOST, 200)
    records = {record["id"]: record for record in outcome.records}
    assert sent["id"] in records and sent["execution"] == records[sent["id"]]["execution"]
    eventually(lambda: guards(shop)[0]["state"] == "gone", "it has said goodbye")
    assert not [alarm for alarm in shop.alarms() if alarm["kind"] == "lost-instance"]
    bench.close()


def test_the_function_gets_the_controllers_secret_only_as_a_placeholder(shop, world):
    shop.do("secret", "put", "stripe", "-a", "shop", input=SECRET)
    credential = {"name": "stripe", "secret": {"store": "stripe"}, "placeholder": {"env": "STRIPE_KEY"},
                  "inject": {"header": "Authorization", "format": "Bearer {}"}}
    shop.put("policy", guard.policy(guard.endpoint(HOST, name="api", credential="stripe"), function="first",
                                    credentials=[credential]), function="first")
    bench = guard.Bench(world)
    outcome = bench.run(["sh", "-c", f'env; curl -s -o /dev/null -H "Authorization: Bearer $STRIPE_KEY" https://{HOST}/secret-of-shop'],
                        flags=flags(shop, "first"))
    assert outcome.code == 0 and SECRET not in outcome.out + outcome.err
    (seen,) = world.saw("/secret-of-shop")
    assert dict((n.lower(), v) for n, v in seen.headers)["authorization"] == f"Bearer {SECRET}"
    assert "STRIPE_KEY=" in outcome.out
    bench.close()


def test_the_join_token_is_not_for_the_command(shop, world):
    token = (shop.folder / "first.token").read_text().strip()
    bench = guard.Bench(world)
    peek = f"cat {shop.folder}/first.token; env; cat /proc/1/environ /proc/*/environ /proc/*/cmdline 2>/dev/null | tr '\\0' '\\n'"
    outcome = bench.run(["sh", "-c", peek], flags=flags(shop, "first"))
    assert token not in outcome.out
    by_variable = bench.run(["sh", "-c", "env"], flags=flags(shop, "first")[:-2], env={"SALLYPORT_JOIN_TOKEN": token})
    assert by_variable.code == 0 and token not in by_variable.out, by_variable.err
    bench.close()


def test_a_guard_of_another_function_is_not_believed(shop, world):
    bench = guard.Bench(world)
    wrong = flags(shop, "first")
    wrong[wrong.index("first")] = "second"
    outcome = bench.run(["true"], flags=wrong)
    assert outcome.code == 125 and "CREDENTIAL" in outcome.err, outcome.err
    bench.close()


def test_a_function_that_has_no_policy_may_nothing_and_is_told_the_remedy(shop, world):
    shop.put("application-graph", application_graph("{name: first, entry: true}", "{name: third, entry: true}"))
    (shop.folder / "third.token").write_text(shop.do("token", "create", "-a", "shop", "-f", "third"))
    bench = guard.Bench(world)
    outcome = bench.run(["curl", "-s", f"https://{HOST}/echo"], flags=flags(shop, "third"))
    assert outcome.code != 0 and world.saw("/echo") == []
    assert "every request is denied (hint: put one in force for the function" in outcome.err, outcome.err
    bench.close()


def test_a_changed_policy_is_in_force_within_a_second(shop, serve):
    serve("first")
    assert published.run(["/echo"])["statuses"] == [200]
    only_other = guard.policy(guard.endpoint(HOST, name="api", path="/other"), function="first", inbound={"probes": PROBES})
    shop.put("policy", only_other, function="first")
    began = time.monotonic()
    eventually(lambda: published.run(["/echo"])["statuses"] == [403], "it is still allowed")
    assert time.monotonic() - began < 2  # with the time of the requests that found out
    shop.do("policy", "rollback", "-a", "shop", "-f", "first")
    eventually(lambda: published.run(["/echo"])["statuses"] == [200], "it is still refused")
    denied = eventually(lambda: [a for a in shop.alarms() if a["kind"] == "denied"], "no alarm")
    assert denied[0]["function"] == "first" and "path-not-allowed" in denied[0]["about"]


def test_who_may_follow_whom_is_enforced_across_functions(shop, serve):
    shop.put("application-graph", FIRST_THEN_SECOND)
    shop.put("settings", checked("second"))
    first, second = serve("first"), serve("second")
    assert published.run(["/asked"], **TO_NEXT)["statuses"] == [200]
    # The attacks of the paper that need no foothold: the middle function called by itself, and with a tag that proves nothing.
    straight = ask("GET", "/straight", port=NEXT_PORT)
    assert (straight[0], straight[1]["sallyport-denied"]) == (403, "entry-refused"), straight
    forged = ask("GET", "/forged", headers={tags.FIELD: tags.make("first")}, port=NEXT_PORT)
    assert (forged[0], forged[1]["sallyport-denied"]) == (403, "tag-invalid")
    paths = [t["inbound"]["path"] for t in second.traces()]
    assert paths == ["/asked"], "the function has seen nothing of what was refused"
    eventually(lambda: [a for a in shop.alarms() if a["kind"] == "no-predecessor"], "no alarm")
    first.stop()
    told = eventually(lambda: (e := shop.events()) and any(
        x["kind"] == "execution-ended" and x["function"] == "first" for x in e) and e, "no end")
    began = {e["function"]: e for e in told if e["kind"] == "execution-began" and e["path"] in ("/run", "/asked")}
    assert began["first"]["request"] == began["second"]["request"], "of one request to the application"
    assert began["second"]["sender"] == "first"


def test_hundreds_of_users_at_once_raise_no_alarm(shop, serve):
    shop.put("application-graph", FIRST_THEN_SECOND)
    shop.put("settings", checked("second"))
    first, second = serve("first"), serve("second")
    statuses = []

    def user(number):
        for turn in range(5):
            statuses.extend(published.run([f"/user{number}-{turn}"], **TO_NEXT)["statuses"])

    users = [threading.Thread(target=user, args=[number]) for number in range(40)]
    for each in users:
        each.start()
    for each in users:
        each.join()
    assert collections.Counter(statuses) == {200: 200}
    first.stop()
    second.stop()
    assert [a for a in shop.alarms() if a["kind"] not in ("denied",)] == []


def test_a_controller_that_is_killed_loses_and_doubles_nothing(shop, serve):
    first = serve("first")
    statuses = published.run([f"/before{i}" for i in range(20)])["statuses"]
    shop.kill()
    statuses += published.run([f"/without{i}" for i in range(20)])["statuses"]
    assert statuses == [200] * 40, "what is known goes on"
    shop.start()
    began = time.monotonic()
    eventually(lambda: guards(shop)[0]["state"] == "connected", "it did not come back")
    assert time.monotonic() - began < 3
    assert published.run([f"/after{i}" for i in range(20)])["statuses"] == [200] * 20
    first.stop()
    sent = eventually(lambda: (all_ := [e for e in shop.events() if e["kind"] == "exchange"]) and len(all_) >= 60 and all_, "lost")
    paths = collections.Counter(event["path"] for event in sent)
    assert len(paths) == 60 and set(paths.values()) == {1}
    assert len(guards(shop)) == 1, "it has kept its id"


def test_without_a_controller_entries_are_refused(shop, serve):
    shop.put("application-graph", FIRST_THEN_SECOND)
    serve("first")
    assert published.run(["/echo"])["statuses"] == [200]
    shop.kill()
    refused = ask("GET", "/hello")
    assert (refused[0], refused[1]["sallyport-denied"]) == (503, "controller-lost")
    shop.start()
    eventually(lambda: ask("GET", "/hello")[0] == 200, "it did not come back")


# Asks for a name in which there is what clears a terminal, and for another.
LOOK_UP = r"""
import re, socket
server = re.search(r"nameserver (\S+)", open("/etc/resolv.conf").read())[1]
for label in (b"\x1b[2J\x1b]0;x\x07\xe2\x80\xae", b"red"):
    asked = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    asked.settimeout(5)
    name = bytes([len(label)]) + label + b"\x07example\x03org\x00"
    asked.sendto(b"\x00\x07\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00" + name + b"\x00\x01\x00\x01", (server, 53))
    asked.recv(512)
"""


def test_what_functions_say_is_harmless_to_a_terminal(shop, world):
    bench = guard.Bench(world)
    outcome = bench.run([guard.PYTHON, "-c", LOOK_UP], flags=flags(shop, "first"))
    assert outcome.code == 0, outcome.err
    eventually(lambda: len([e for e in shop.events() if e["kind"] == "dns"]) == 2, "not told")
    eventually(lambda: "red.example.org: no endpoint" in shop.do("alarm", "list", "-a", "shop"), "which host it was is not said")
    shown = shop.do("events", "-a", "shop") + shop.do("alarm", "list", "-a", "shop") + shop.said()
    assert all(each.isprintable() or each == "\n" for each in shown), shown
    assert "deny host-not-allowed  red.example.org" in shown, shown
    bench.close()


def test_a_revoked_token_ends_the_membership(shop, serve):
    serve("first")
    token = (shop.folder / "first.token").read_text().split(".")[1]
    shop.do("token", "revoke", token)
    eventually(lambda: guards(shop)[0]["state"] != "connected", "it is still there")
    assert published.run(["/echo"])["statuses"] == [200], "with what it has, as long as that may be used"


def test_one_bucket_is_shared_by_all_instances(shop, world):
    shop.put("settings", settings(limits=[{"name": "all", "rate": "1/h", "burst": 6}]))
    statuses = []

    def instance():
        bench = guard.Bench(world)
        urls = " ".join([f"https://{HOST}/limited"] * 5)
        got = bench.run(["sh", "-c", f"curl -s -o /dev/null -w '%{{http_code}} ' {urls.replace(' ', ' -o /dev/null ')}"],
                        flags=flags(shop, "first"))
        statuses.extend(got.out.split())
        bench.close()

    instances = [threading.Thread(target=instance) for _ in range(3)]
    for each in instances:
        each.start()
    for each in instances:
        each.join()
    counts = collections.Counter(statuses)
    assert counts["200"] <= 6 and counts["200"] + counts["429"] == 15, counts
    assert counts["200"] >= 1


def test_without_its_controller_a_policy_ends_with_its_lifetime_and_comes_back(shop, serve):
    shop.put("settings", settings(lifetime="2s"))
    serve("first")
    assert published.run(["/echo"])["statuses"] == [200]
    shop.kill()
    assert published.run(["/echo"])["statuses"] == [200], "it is still good"
    expired = eventually(lambda: (answer := ask("GET", "/hello"))[0] == 503 and answer, "it does not expire")
    assert expired[1]["sallyport-denied"] == "policy-expired"
    assert ask("GET", "/healthz")[0] == 200, "a probe is answered"
    shop.start()
    eventually(lambda: ask("GET", "/hello")[0] == 200, "it did not come back")
