"""Functions as containers run them: an HTTP server under a guard, which others reach by a port that the guard publishes
(`sallyport run --publish`). Each message is an execution."""

import http.client
import signal
import time

import guard
import lab
import lambdas

_PROGRAM = lambdas.RUNTIME.with_name("server.py")
_INSIDE = 8080
_START_S = 120


class Server(lambdas.Function):
    """It has one instance, which is started with the first message."""

    def ask(self, method, path, body, headers):
        """(status, body) of the answer to a message from outside."""
        if not self.instances:
            self.instances.append(ServerInstance(self, 0))
            self.instances[0].start()
        return self.instances[0].ask(method, path, body, headers)


class ServerInstance(lambdas.Instance):
    def listen(self):
        """There is no Runtime API: the guard listens."""

    def command(self, handler):
        return [guard.PYTHON, _PROGRAM, handler, _INSIDE]

    def flags(self):
        return ["--publish", f"{lab.CLOUD_V4}:{self.port}:{_INSIDE}"]

    def ask(self, method, path, body, headers):
        """Until the server listens, its guard answers for it: a message of which nothing came in is sent again."""
        end = time.monotonic() + _START_S
        while True:
            try:
                status, answer = self._ask(method, path, body, headers)
                if status != 502:
                    return status, answer
            except ConnectionRefusedError:
                pass
            assert not self.cloud.faults() and time.monotonic() < end, self.stderr()
            time.sleep(0.05)

    def _ask(self, method, path, body, headers):
        client = http.client.HTTPConnection(lab.CLOUD_V4, self.port, timeout=_START_S)
        try:
            client.request(method, path, body, headers)
            response = client.getresponse()
            return response.status, response.read()
        finally:
            client.close()

    def wait(self):
        """Nobody asks a server to end but by a signal."""
        self.process.send_signal(signal.SIGTERM)
        super().wait(lambda code: code == 128 + signal.SIGTERM)
