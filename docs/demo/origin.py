"""The services of the demo, in one process: two that the policy allows and one that an attacker owns.

usage: origin.py LOG NAME=ADDRESS=CERTIFICATE=KEY…

Each request becomes a line of JSON in LOG, and so does each connection, before anything is read from it: what an
attacker's server sees of a refused call must be nothing at all.
"""

import http.server
import json
import ssl
import sys
import threading

ANSWERS = {
    "/reports/november.csv": "invoice,amount\n1,1200\n",
    "/salaries/november.csv": "name,salary\n",
    "/v1/charges": '{"charged": true}\n',
}


class Log:
    def __init__(self, path):
        self._file = open(path, "a", encoding="utf-8")
        self._lock = threading.Lock()

    def write(self, **what):
        with self._lock:
            print(json.dumps(what), file=self._file, flush=True)


def handler_for(service, log):
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # an answer in two writes would wait 40 ms for the first one's acknowledgement

        def answer(self):
            length = int(self.headers.get("Content-Length", 0))
            self.rfile.read(length)
            log.write(service=service, method=self.command, path=self.path, body_bytes=length,
                      authorization=self.headers.get("Authorization"))
            body = ANSWERS.get(self.path, "thank you\n").encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = answer

        def log_message(self, *_):
            """The log above is enough."""

    return Handler


class Service(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, name, address, certificate, key, log):
        self._name, self._log = name, log
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._tls.load_cert_chain(certificate, key)
        super().__init__((address, 443), handler_for(name, log))

    def get_request(self):
        connection, peer = super().get_request()
        self._log.write(service=self._name, connection=peer[0])
        # The handshake is left to the connection's own thread.
        return self._tls.wrap_socket(connection, server_side=True, do_handshake_on_connect=False), peer

    def handle_error(self, request, client_address):
        """A client that goes away, or does not like the certificate, is no error of this service."""


def main():
    log = Log(sys.argv[1])
    for argument in sys.argv[2:]:
        service = Service(*argument.split("="), log)
        threading.Thread(target=service.serve_forever, daemon=True).start()
    print("ready", flush=True)
    sys.stdin.read()  # until the demo ends


main()
