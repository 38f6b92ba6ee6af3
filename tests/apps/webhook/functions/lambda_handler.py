"""The receiver as a Lambda function with a URL: events in API Gateway's format 2.0 for a WSGI application."""

import base64
import io
import sys

import receiver


def environment(event):
    body = event.get("body", "")
    data = base64.b64decode(body) if event.get("isBase64Encoded") else body.encode()
    http = event["requestContext"]["http"]
    made = {
        "REQUEST_METHOD": http["method"],
        "SCRIPT_NAME": "",
        "PATH_INFO": event["rawPath"],
        "QUERY_STRING": event.get("rawQueryString", ""),
        "SERVER_NAME": event["requestContext"]["domainName"],
        "SERVER_PORT": "443",
        "SERVER_PROTOCOL": http["protocol"],
        "CONTENT_LENGTH": str(len(data)),
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "https",
        "wsgi.input": io.BytesIO(data),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": False,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
    }
    for name, value in event["headers"].items():
        made["HTTP_" + name.upper().replace("-", "_")] = value
    return made


def handler(event, context):
    started = []
    parts = receiver.application(environment(event), lambda status, fields: started.append((status, fields)))
    body = b"".join(parts).decode()
    status, fields = started[0]
    return {"statusCode": int(status.split(" ")[0]), "headers": dict(fields), "body": body}
