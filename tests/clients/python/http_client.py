"""http.client with the strict verification that Python has by default from 3.13 on: on an older Python it is switched
on here. It follows no redirects."""

import http.client
import ssl
import urllib.parse

import steps

context = ssl.create_default_context()
context.verify_flags |= ssl.VERIFY_X509_STRICT | ssl.VERIFY_X509_PARTIAL_CHAIN
connections = {}


def ask(method, url):
    parts = urllib.parse.urlsplit(url)
    if parts.netloc not in connections:
        connections[parts.netloc] = http.client.HTTPSConnection(parts.netloc, timeout=30, context=context)
    connection = connections[parts.netloc]
    connection.request(method, url.partition(parts.netloc)[2], body=steps.body() if method == "POST" else None)
    answer = connection.getresponse()
    return answer.status, answer.read().decode()


steps.serve(ask)
