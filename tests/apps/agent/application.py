"""An agent: a language model decides which of four tools are called, how often, and in which order."""

import pathlib
import random as random_module

import application
import lambdas
from agent import services

_FOLDER = pathlib.Path(__file__).resolve().parent / "functions"
_APIS = {
    "llm.example.com": services.Model,
    "orders.example.com": services.Orders,
    "shipping.example.com": services.Shipping,
    "weather.example.com": services.Weather,
    "search.example.com": services.Search,
}


class Agent(application.Application):
    name = "agent"

    def __init__(self, cloud, failing=0.01):
        super().__init__(cloud)
        self._apis = {host: kind(failing) for host, kind in _APIS.items()}
        for host, api in self._apis.items():
            cloud.serve(host, api.handle)
        endpoints = tuple(lambdas.Endpoint(host) for host in _APIS)
        self.deploy("agent", "agent.handler", _FOLDER, endpoints)

    def round(self, random):
        for api in self._apis.values():
            api.random = random_module.Random(random.getrandbits(64))
        orders = random.sample(range(1000, 10_000), random.choice([0, 1, 1, 2, 3]))
        cities = random.sample(services.CITIES, random.choice([0, 0, 1, 2]))
        topics = random.sample(services.TOPICS, random.choice([0, 0, 1]))
        parts = [f"where is order {each}" for each in orders]
        parts += [f"what is the weather in {each}" for each in cities]
        parts += [f"what do you say about {each}" for each in topics]
        random.shuffle(parts)
        told = self.invoke("agent", {"question": ", and ".join(parts) or "hello"})
        shipments = [shipment for each in orders if (shipment := services.shipment_of(each))]
        expected = [f'"order": {each}' for each in orders]
        expected += [f'"place": "{services.place_of(each)}"' for each in shipments]
        expected += [f'"forecast": "{services.weather_in(each)}"' for each in cities]
        expected += [f'"found": "{services.help_on(each)}"' for each in topics]
        for fact in expected:
            assert fact in told["answer"], (parts, told)
        assert told["answer"].count("{") == len(expected), (parts, told)
        return f"{len(orders)} orders, {len(shipments)} shipments, {len(cities)} cities, {len(topics)} topics"
