"""The tools of the agent: each is one call of an HTTP API."""


def _json(answer):
    answer.raise_for_status()
    return answer.json()


def get_order(session, order):
    return _json(session.get(f"https://orders.example.com/v1/orders/{int(order)}", timeout=30))


def track_shipment(session, shipment):
    return _json(session.get(f"https://shipping.example.com/v1/shipments/{shipment}/events", timeout=30))


def get_forecast(session, city):
    return _json(session.get("https://weather.example.com/v1/forecast", params={"city": city}, timeout=30))


def search_help(session, query):
    return _json(session.post("https://search.example.com/v1/query", json={"query": query, "top": 3}, timeout=30))


TOOLS = {
    "get_order": get_order,
    "track_shipment": track_shipment,
    "get_forecast": get_forecast,
    "search_help": search_help,
}


def _describe(name, text, parameter, kind="string"):
    schema = {"type": "object", "properties": {parameter: {"type": kind}}, "required": [parameter]}
    return {"type": "function", "function": {"name": name, "description": text, "parameters": schema}}


DESCRIPTIONS = [
    _describe("get_order", "An order, by its number.", "order", "integer"),
    _describe("track_shipment", "Where a shipment is, by its identifier.", "shipment"),
    _describe("get_forecast", "The weather of the next day in a city.", "city"),
    _describe("search_help", "Searches the shop's pages of help.", "query"),
]
