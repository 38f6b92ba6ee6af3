"""A function as a developer writes it with Flask: it does what it is asked, with requests as its client. With PROPAGATE
its OpenTelemetry passes the trace on that came with the message."""

import os
import threading

import flask
import requests

app = flask.Flask(__name__)
if os.environ.get("PROPAGATE"):
    from opentelemetry import trace
    from opentelemetry.instrumentation.flask import FlaskInstrumentor
    from opentelemetry.instrumentation.requests import RequestsInstrumentor
    from opentelemetry.sdk.trace import TracerProvider

    trace.set_tracer_provider(TracerProvider())
    FlaskInstrumentor().instrument_app(app)
    RequestsInstrumentor().instrument()

together = threading.Barrier(int(os.environ.get("TOGETHER", "1")), timeout=30)


@app.get("/healthz")
def healthz():
    return "well"


@app.post("/run")
def run():
    task = flask.request.get_json()
    if task.get("meet"):
        together.wait()
    statuses = [requests.get(url, timeout=20).status_code for url in task["urls"]]
    if task.get("meet"):
        together.wait()
    return {"statuses": statuses}
