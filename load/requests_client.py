"""A function as many are written: `requests.get` for each call, without a session, so with a new TLS connection.

Run by far.py with a number of calls, a URL and a file of roots; prints the percentiles of the calls as JSON.
"""

import json
import sys
import time

import requests

PERCENTILES = (10, 25, 50, 75, 90, 99)


def main(calls, url, roots):
    latencies_us = []
    for _ in range(calls):
        began = time.monotonic()
        response = requests.get(url, verify=roots, timeout=30)
        latencies_us.append((time.monotonic() - began) * 1e6)
        if response.status_code != 200 or len(response.content) != 1024:
            sys.exit(f"answer {response.status_code} with {len(response.content)} bytes")
    latencies_us.sort()
    print(json.dumps({f"p{p}_us": latencies_us[p * (calls - 1) // 100] for p in PERCENTILES}))


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], sys.argv[3])
