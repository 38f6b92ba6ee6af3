"""A language model's API and the APIs of its tools. The model is small: it finds what a question asks for by words, and
decides by chance how many tools it calls in one turn."""

import hashlib
import json
import random as random_module
import re
import urllib.parse

import flaky

CITIES = ("Oslo", "Lima", "Pune", "Accra", "Quito", "Perth")
TOPICS = ("returns", "invoices", "warranty", "gift cards", "delivery times")


def shipment_of(order):
    """Every second order has been shipped."""
    return str(random_module.Random(order).randrange(10**9, 10**10)) if order % 2 == 0 else None


def place_of(shipment):
    return CITIES[int(shipment) % len(CITIES)]


def weather_in(city):
    return f"{len(city) * 3} degrees"


def help_on(topic):
    return "help-" + hashlib.sha256(topic.encode()).hexdigest()[:8]


class Model(flaky.Api):
    """The chat completions' API. It holds no state: all it knows is in the messages."""

    def answer(self, request):
        if request.path != "/v1/chat/completions":
            return "404 Not Found", {"error": {"message": "no such route"}}
        messages = flaky.read(request)["messages"]
        facts, asked = self._read(messages)
        wanted = [each for each in self._needs(messages[1]["content"], facts) if each not in asked]
        if wanted:
            count = min(len(wanted), self.random.choice([1, 1, 2, 3]))
            calls = [self._call(name, arguments) for name, arguments in self.random.sample(wanted, count)]
            message = {"role": "assistant", "content": None, "tool_calls": calls}
            return "200 OK", {"choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}]}
        message = {"role": "assistant", "content": "; ".join(sorted(json.dumps(fact) for fact in facts))}
        return "200 OK", {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}

    def _call(self, name, arguments):
        identity = f"call_{self.random.getrandbits(64):016x}"
        return {"id": identity, "type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}

    def _read(self, messages):
        """The results of tools, and what was asked of them."""
        facts = [json.loads(message["content"]) for message in messages if message["role"] == "tool"]
        asked = []
        for message in messages:
            for call in message.get("tool_calls") or []:
                asked.append((call["function"]["name"], json.loads(call["function"]["arguments"])))
        return facts, asked

    def _needs(self, question, facts):
        for number in re.findall(r"order (\d+)", question):
            yield "get_order", {"order": int(number)}
        for city in CITIES:
            if f"weather in {city}" in question:
                yield "get_forecast", {"city": city}
        for topic in TOPICS:
            if f"about {topic}" in question:
                yield "search_help", {"query": topic}
        for fact in facts:  # what was shipped is tracked
            if fact.get("shipment"):
                yield "track_shipment", {"shipment": fact["shipment"]}


class Orders(flaky.Api):
    def answer(self, request):
        number = int(request.path.rpartition("/")[2])
        return "200 OK", {"order": number, "shipment": shipment_of(number)}


class Shipping(flaky.Api):
    def answer(self, request):
        shipment = request.path.split("/")[3]
        return "200 OK", {"place": place_of(shipment)}


class Weather(flaky.Api):
    def answer(self, request):
        (city,) = urllib.parse.parse_qs(request.target.partition("?")[2])["city"]
        return "200 OK", {"forecast": weather_in(city)}


class Search(flaky.Api):
    def answer(self, request):
        return "200 OK", {"found": help_on(flaky.read(request)["query"])}
