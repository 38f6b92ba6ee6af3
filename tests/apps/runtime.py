"""The process of a function: the loop of AWS Lambda's Runtime API around a handler, as `python3 runtime.py
MODULE.NAME`. It knows nothing of guards."""

import http.client
import importlib
import json
import os
import sys
import time
import traceback

_API = "/2018-06-01/runtime"
_TIMEOUT_S = 900  # as long as an invocation may be waited for


class Context:
    """What a handler gets beside its event."""

    def __init__(self, headers):
        self.aws_request_id = headers["Lambda-Runtime-Aws-Request-Id"]
        self.invoked_function_arn = headers["Lambda-Runtime-Invoked-Function-Arn"]
        self.function_name = os.environ["AWS_LAMBDA_FUNCTION_NAME"]
        self._deadline_ms = int(headers["Lambda-Runtime-Deadline-Ms"])

    def get_remaining_time_in_millis(self):
        return max(0, self._deadline_ms - int(time.time() * 1000))


class RuntimeApi:
    """One connection, which is made anew when it has ended: nobody keeps one for as long as a handler may take."""

    def __init__(self, address):
        self._connection = http.client.HTTPConnection(address, timeout=_TIMEOUT_S)

    def ask(self, method, path, body=None):
        kept = self._connection.sock is not None
        try:
            return self._ask(method, path, body)
        except ConnectionError:
            self._connection.close()
            if not kept:
                raise
        return self._ask(method, path, body)

    def _ask(self, method, path, body):
        self._connection.request(method, _API + path, body, {"Content-Type": "application/json"})
        response = self._connection.getresponse()
        return response.status, response.headers, response.read()

    def next(self):
        """The next invocation: its headers and its event. None when there will be no more."""
        while True:
            try:
                status, headers, event = self.ask("GET", "/invocation/next")
            except (OSError, http.client.HTTPException):
                self._connection.close()
                time.sleep(0.1)
                continue
            if status == 200:
                return headers, json.loads(event)
            if status == 410:
                return None
            time.sleep(0.1)  # nobody had an invocation for so long that somebody on the way gave up


def _failure(error):
    told = {
        "errorMessage": str(error),
        "errorType": type(error).__name__,
        "stackTrace": traceback.format_tb(error.__traceback__),
    }
    return json.dumps(told).encode()


def main():
    api = RuntimeApi(os.environ["AWS_LAMBDA_RUNTIME_API"])
    try:
        module, _, name = sys.argv[1].rpartition(".")
        handler = getattr(importlib.import_module(module), name)
    except Exception as error:
        traceback.print_exc()
        api.ask("POST", "/init/error", _failure(error))
        sys.exit(1)
    while (invocation := api.next()) is not None:
        headers, event = invocation
        context = Context(headers)
        try:
            kind, body = "response", json.dumps(handler(event, context)).encode()
        except Exception as error:
            traceback.print_exc()
            kind, body = "error", _failure(error)
        api.ask("POST", f"/invocation/{context.aws_request_id}/{kind}", body)


if __name__ == "__main__":
    main()
