"""httpx, one client. It follows redirects only when told to."""

import httpx
import steps

client = httpx.Client(follow_redirects=True, timeout=30)


def ask(method, url):
    answer = client.request(method, url, content=steps.body() if method == "POST" else None)
    return answer.status_code, answer.text


steps.serve(ask)
