"""Answers a customer's question with a language model, which calls tools as it sees fit."""

import json
import os

import requests
import tools
from requests.adapters import HTTPAdapter
from urllib3.util.retry import Retry

MODEL = "https://llm.example.com/v1/chat/completions"
TURNS_MAX = 10
SYSTEM = "You help the customers of a shop. Use the tools; do not guess."

session = requests.Session()
session.headers["Authorization"] = f"Bearer {os.environ['API_TOKEN']}"
again = Retry(total=5, backoff_factor=0.02, status_forcelist=(429, 500, 502, 503, 504), allowed_methods=None)
session.mount("https://", HTTPAdapter(max_retries=again))


def complete(messages):
    request = {"model": "helper-1", "messages": messages, "tools": tools.DESCRIPTIONS}
    answer = session.post(MODEL, json=request, timeout=60)
    answer.raise_for_status()
    return answer.json()["choices"][0]


def run(call):
    """The message with a tool's result; an error is a result, too, for the model to see."""
    name, arguments = call["function"]["name"], json.loads(call["function"]["arguments"])
    try:
        result = tools.TOOLS[name](session, **arguments)
    except (KeyError, TypeError, requests.RequestException) as error:
        result = {"error": str(error)}
    return {"role": "tool", "tool_call_id": call["id"], "content": json.dumps(result)}


def handler(event, context):
    messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": event["question"]}]
    for _ in range(TURNS_MAX):
        choice = complete(messages)
        messages.append(choice["message"])
        if choice["finish_reason"] != "tool_calls":
            return {"answer": choice["message"]["content"], "messages": len(messages)}
        messages += [run(call) for call in choice["message"]["tool_calls"]]
    return {"answer": "I could not find out.", "messages": len(messages)}
