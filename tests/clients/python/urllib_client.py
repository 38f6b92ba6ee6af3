"""urllib.request of the standard library. It has no keep-alive."""

import urllib.error
import urllib.request

import steps


def ask(method, url):
    body = steps.body().read() if method == "POST" else None
    request = urllib.request.Request(url, data=body, method=method)
    try:
        answer = urllib.request.urlopen(request, timeout=30)
    except urllib.error.HTTPError as refusal:
        answer = refusal
    return answer.status, answer.read().decode()


steps.serve(ask)
