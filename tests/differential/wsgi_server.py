"""The application behind gunicorn."""

import os

import sighting

_log = os.open(os.environ["SIGHTINGS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)


def application(environ, start_response):
    body = environ["wsgi.input"].read()
    if len(body) != int(environ.get("CONTENT_LENGTH") or len(body)):
        raise OSError("the connection ended within the body")
    method, target = environ["REQUEST_METHOD"], environ["RAW_URI"]
    line = sighting.line(method, target, environ.get("HTTP_HOST", ""), body)
    os.write(_log, line)
    status, answer, chunked = sighting.answer(method, target, sighting.name(line))
    headers = [("Seen", sighting.name(line))]
    if not chunked and status != 204:
        headers.append(("Content-Length", str(len(answer))))
    start_response(f"{status} Answered", headers)
    return [answer] if answer else []
