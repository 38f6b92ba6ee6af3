"""A Runtime API as AWS Lambda has it, for the tests: invocations are queued, and what becomes of them is remembered."""

import http.server
import queue
import threading


class RuntimeApi:
    """`answers`: request id to (path's last part, body) of what the function posted."""

    def __init__(self, address="127.0.0.1", port=9001):
        self.queue, self.answers, self.requests = queue.Queue(), {}, []
        self.answered = threading.Condition()
        api = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                api.requests.append(("GET", self.path, dict(self.headers)))
                if self.path != "/2018-06-01/runtime/invocation/next":
                    return self.reply(404, b"{}")
                identity, event, trace = api.queue.get()
                if identity is None:
                    return self.reply(500, b"{}")
                headers = {"Lambda-Runtime-Aws-Request-Id": identity, "Lambda-Runtime-Deadline-Ms": "0"}
                if trace:
                    headers["Lambda-Runtime-Trace-Id"] = trace
                self.reply(200, event, headers)

            def do_POST(self):
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                api.requests.append(("POST", self.path, dict(self.headers)))
                parts = self.path.split("/")
                with api.answered:
                    api.answers[parts[-2]] = (parts[-1], body)
                    api.answered.notify_all()
                self.reply(202, b'{"status":"OK"}')

            def reply(self, status, body, headers=None):
                self.send_response(status)
                for name, value in (headers or {}).items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer((address, port), Handler)
        self.server.daemon_threads = True
        self.address = f"{address}:{port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def invoke(self, identity, event=b"{}", trace=None):
        self.queue.put((identity, event, trace))

    def wait_for(self, identity, timeout=15):
        with self.answered:
            assert self.answered.wait_for(lambda: identity in self.answers, timeout), self.answers
            return self.answers[identity]

    def close(self):
        self.server.shutdown()
        self.server.server_close()
