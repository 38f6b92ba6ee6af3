"""requests, one session."""

import requests
import steps

session = requests.Session()


def ask(method, url):
    answer = session.request(method, url, data=steps.body() if method == "POST" else None, timeout=30)
    return answer.status_code, answer.text


steps.serve(ask)
