#!/usr/bin/env python3
"""`./dev demo`: a small function makes real HTTPS calls through the guard, and the demo checks what came of them.

usage: demo.py SALLYPORT [COMMAND [ARGUMENT…]]

With a COMMAND (a shell, say) only the services are started, and the command runs beside them with sallyport in its PATH
and the issuer of the services' certificates in $SERVICES_CA.

It all happens in a network namespace without any interface but loopback, so nothing can leave the machine. The
services' names are in a hosts file that only this demo sees; their certificates and the payment key are made for this
run. The exit code is 0 only if everything went as it should.
"""

import json
import os
import secrets
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
SERVICES = {"files.example": "203.0.113.10", "api.payments.example": "203.0.113.11", "paste.example": "203.0.113.66"}
TIMEOUT_S = 60
INSIDE = "SALLYPORT_DEMO_INSIDE"


def heading(text):
    print(f"\n\033[1m{text}\033[0m" if sys.stdout.isatty() else f"\n{text}", flush=True)


def enter_namespaces():
    """Runs this program again in namespaces of its own; an ordinary user becomes root of a user namespace for it."""
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    os.environ[INSIDE] = "yes"
    os.execvp("unshare", ["unshare", *user, "--net", "--mount", "--fork", "--kill-child", "--",
                          sys.executable, __file__, *sys.argv[1:]])


def make_network(folder):
    """Loopback with the services' addresses, and their names in this mount namespace's /etc/hosts."""
    hosts = folder / "hosts"
    hosts.write_text("127.0.0.1 localhost\n" + "".join(f"{address} {name}\n" for name, address in SERVICES.items()))
    subprocess.run(["mount", "--bind", hosts, "/etc/hosts"], check=True)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    for address in SERVICES.values():
        subprocess.run(["ip", "address", "add", f"{address}/32", "dev", "lo"], check=True)


def start_services(sallyport, folder):
    """The services, with certificates of an issuer of their own. They stop when their stdin is closed."""

    def ca(*arguments):
        subprocess.run([sallyport, "ca", *arguments], check=True, stdout=subprocess.DEVNULL)

    root, root_key = folder / "services-root.pem", folder / "services-root.key"
    ca("init", "--cert", root, "--key", root_key, "--name", "the demo's services")
    arguments = []
    for name, address in SERVICES.items():
        certificate, key = folder / f"{name}.pem", folder / f"{name}.key"
        ca("issue", name, "--ca-cert", root, "--ca-key", root_key, "--cert", certificate, "--key", key)
        arguments.append(f"{name}={address}={certificate}={key}")
    services = subprocess.Popen([sys.executable, HERE / "origin.py", folder / "seen.jsonl", *arguments],
                                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    if services.stdout.readline() != "ready\n":
        sys.exit("demo: the services did not start")
    return services


def run_function(sallyport, folder, key):
    """The main job: the function under guard. Its output, and the guard's, go where this program's go."""
    command = [sallyport, "run", "--verbose", "--policy", HERE / "policy.yaml",
               "--upstream-ca", folder / "services-root.pem", "--record", folder / "records.jsonl",
               "--", sys.executable, HERE / "function.py"]
    heading(f"$ PAYMENTS_KEY={key} sallyport run --verbose --policy policy.yaml … -- python3 function.py")
    environment = {**os.environ, "PAYMENTS_KEY": key}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as running:
        lines = []
        for line in running.stdout:
            print(line, end="", flush=True)
            lines.append(line)
        code = running.wait(TIMEOUT_S)
    return code, "".join(lines)


def run_beside(sallyport, folder, command):
    """Somebody's own command beside the services."""
    environment = {**os.environ, "SERVICES_CA": str(folder / "services-root.pem"),
                   "PATH": f"{Path(sallyport).parent}:{os.environ['PATH']}"}
    return subprocess.run(command, env=environment, check=False).returncode


def read_lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def print_seen(seen, key):
    heading("What the services saw")
    for name in SERVICES:
        requests = [line for line in seen if line["service"] == name and "method" in line]
        for request in requests:
            held = {None: "", f"Bearer {key}": ", with the real key"}
            held = held.get(request["authorization"], ", with another key")
            print(f"  {name}: {request['method']} {request['path']}{held}")
        if not [line for line in seen if line["service"] == name]:
            print(f"  {name}: nothing, not even a connection")


def print_records(records):
    heading("The records")
    for record in records:
        if record["kind"] == "execution":
            continue
        what = f"{record.get('method', 'name')} {record['host']}{record.get('path', '')}"
        why = record.get("reason") or " ".join(f"{name} {record[name]}" for name in ("endpoint", "credential")
                                               if name in record)
        print(f"  {record['id']}  {record['decision']:5}  {what:43}  {why}")
    print("One of them as it is written, a line of JSON:")
    print("  " + json.dumps(next(record for record in records if "credential" in record), separators=(",", ":")))


def checks(code, output, seen, records, key):
    """What must be true, in words, and whether it is."""

    def recorded(decision, **fields):
        return any(record["decision"] == decision and all(record.get(name) == value for name, value in fields.items())
                   for record in records)

    def served(service):
        return [line for line in seen if line["service"] == service and "method" in line]

    charges = served("api.payments.example")
    return {
        "the function ran to its end": code == 0,
        "an allowed call was answered": "invoice,amount" in output,
        "and recorded as allowed": recorded("allow", host="files.example", path="/reports/november.csv", status=200),
        "the payment service saw the real key": [line["authorization"] for line in charges] == [f"Bearer {key}"],
        "its record names the credential": recorded("allow", host="api.payments.example", credential="payments"),
        "the function never held the key": key not in output and "PAYMENTS_KEY=" in output,
        "the attacker's server saw no connection": not [line for line in seen if line["service"] == "paste.example"],
        "the attempt by name is recorded": recorded("deny", host="paste.example", reason="host-not-allowed"),
        "the attempt by address is recorded": recorded("deny", host="203.0.113.66", reason="host-not-allowed"),
        "the path outside the policy was refused": "salaries" in output and not [
            line for line in served("files.example") if line["path"].startswith("/salaries/")],
        "and recorded with its reason": recorded("deny", host="files.example", reason="path-not-allowed"),
        "a second charge was refused": len(charges) == 1 and charges[0]["body_bytes"] == len('{"amount": 1200}'),
        "and recorded with what was expected": recorded("deny", host="api.payments.example", reason="flow-not-allowed"),
        "no record holds the key": not any(key in json.dumps(record) for record in records),
    }


def print_checks(results):
    heading("Checked")
    colours = {True: ("\033[32m", "\033[0m"), False: ("\033[31m", "\033[0m")} if sys.stdout.isatty() else {}
    for what, held in results.items():
        before, after = colours.get(held, ("", ""))
        print(f"  {before}{'yes' if held else 'NO '}{after} {what}")
    good = sum(results.values())
    print(f"\n{good} of {len(results)} as it should be", flush=True)
    return good == len(results)


def demonstrate(sallyport, folder):
    key = "live_" + secrets.token_hex(8)
    code, output = run_function(sallyport, folder, key)
    seen, records = read_lines(folder / "seen.jsonl"), read_lines(folder / "records.jsonl")
    print_seen(seen, key)
    print_records(records)
    return 0 if print_checks(checks(code, output, seen, records, key)) else 1


def main(sallyport, command):
    del os.environ[INSIDE]
    with tempfile.TemporaryDirectory(prefix="sallyport-demo-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        make_network(folder)
        services = start_services(sallyport, folder)
        try:
            return run_beside(sallyport, folder, command) if command else demonstrate(sallyport, folder)
        finally:
            services.stdin.close()
            services.wait(10)


if __name__ == "__main__":
    if INSIDE not in os.environ:
        enter_namespaces()
    sys.exit(main(sys.argv[1], sys.argv[2:]))
