"""Flow graphs for guarded commands: JSON is YAML."""

import json

import guard


def node(name, request, *following, **more):
    """One node: `request` is "GET host/path"; what may follow it, else the end."""
    return {"name": name, "request": request, **more, "next": list(following) or ["exit"]}


def graph(*nodes, entry=None, function="tested", **more):
    """The text of a graph; it begins with its first node unless it is said otherwise."""
    spec = {**more, "entry": entry or [nodes[0]["name"]], "nodes": list(nodes)}
    return json.dumps(
        {"apiVersion": "sallyport.dev/v1alpha1", "kind": "FlowGraph", "metadata": {"name": function}, "spec": spec}
    )


def policy(bench, text, *endpoints, mode="enforce", credentials=(), **flow):
    """The text of a policy that names a graph, which is written beside it."""
    file = bench.policy_file.with_name("graph.yaml")
    file.write_text(text)
    file.chmod(0o644)
    document = json.loads(guard.policy(*endpoints, mode=mode, credentials=credentials))
    document["spec"]["flow"] = {"graph": "graph.yaml", **flow}
    return json.dumps(document, indent=1)


def refused(records):
    """The paths of the requests that a graph has refused, or would have."""
    return [r["path"] for r in records if r.get("reason") == "flow-not-allowed"]
