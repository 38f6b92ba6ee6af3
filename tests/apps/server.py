"""The process of a function that is an HTTP server, as `python3 server.py MODULE.NAME PORT`: a WSGI application, one
message after the other. It knows nothing of guards."""

import importlib
import sys
from wsgiref import simple_server


class Handler(simple_server.WSGIRequestHandler):
    def log_message(self, *_):
        pass


def main():
    module, _, name = sys.argv[1].rpartition(".")
    application = getattr(importlib.import_module(module), name)
    simple_server.make_server("127.0.0.1", int(sys.argv[2]), application, handler_class=Handler).serve_forever()


if __name__ == "__main__":
    main()
