"""`sallyport flow`: what only the real program shows: that a drawing is drawn, and colours where somebody looks."""

import os
import pty
import subprocess
import xml.etree.ElementTree

import pytest

import guard

GRAPH = """apiVersion: sallyport.dev/v1alpha1
kind: FlowGraph
metadata: {name: thumbnailer}
spec:
  entry: [load]
  nodes:
  - {name: load, request: 'GET s3.example.com/photos/{uuid}/*', times: 2, next: [store], support: 20}
  - {name: store, request: 'PUT s3.example.com/"<&>/{int}'  , next: [exit], support: 1}
  executions: 20
"""


@pytest.fixture
def graph(tmp_path):
    file = tmp_path / "graph.yaml"
    file.write_text(GRAPH)
    return file


def flow(*arguments, **options):
    return subprocess.run([guard.SALLYPORT, "flow", *arguments], capture_output=True, text=True, timeout=60, **options)


def test_a_graph_is_drawn(graph):
    done = flow("show", graph, "-o", "svg")
    assert done.returncode == 0, done.stderr
    texts = [node.text for node in xml.etree.ElementTree.fromstring(done.stdout).iter("{http://www.w3.org/2000/svg}text")]
    assert {"load", "store", "seen once", 'PUT s3.example.com/"<&>/{int}'} <= set(texts), texts


def test_a_large_graph_goes_through_graphviz_without_filling_a_pipe(tmp_path):
    """A drawing larger than what a pipe holds, both ways: neither side may wait for the other."""
    nodes = "".join(
        f"  - {{name: n{i}, request: GET a.example.com/{'x' * 300}/{i}, next: [{f'n{i + 1}' if i < 399 else 'exit'}]}}\n"
        for i in range(400)
    )
    file = tmp_path / "large.yaml"
    file.write_text(GRAPH[: GRAPH.index("  entry")] + "  entry: [n0]\n  nodes:\n" + nodes)
    done = flow("show", file, "-o", "svg")
    assert done.returncode == 0 and len(done.stdout) > 200_000, done.stderr


def test_without_graphviz_it_says_what_to_do(graph):
    done = flow("show", graph, "-o", "svg", env={"PATH": "/nonexistent"})
    assert done.returncode == 1 and "install the package graphviz" in done.stderr and not done.stdout


def test_a_graphviz_that_fails_draws_nothing(graph, tmp_path):
    program = tmp_path / "dot"
    program.write_text("#!/bin/sh\necho half; exit 3\n")
    program.chmod(0o755)
    done = flow("show", graph, "-o", "svg", env={"PATH": str(tmp_path)})
    assert done.returncode == 1 and "dot has failed" in done.stderr and not done.stdout


def on_a_terminal(*arguments, **environment):
    leader, follower = pty.openpty()
    subprocess.run(
        [guard.SALLYPORT, "flow", *arguments], stdout=follower, env={"TERM": "xterm", **environment}, check=False, timeout=60
    )
    os.close(follower)
    out = b""
    while True:
        try:
            block = os.read(leader, 65536)
        except OSError:  # how a pseudo terminal ends
            break
        if not block:
            break
        out += block
    os.close(leader)
    return out.decode()


def test_colours_are_for_terminals_alone(graph):
    assert "\x1b[33mseen once\x1b[0m" in on_a_terminal("show", graph)
    assert "\x1b" not in on_a_terminal("show", graph, NO_COLOR="1")
    assert "\x1b" not in on_a_terminal("show", graph, TERM="dumb")
    assert "\x1b" not in flow("show", graph).stdout


def test_a_graph_comes_from_standard_input(graph):
    done = flow("check", "-", input=GRAPH)
    assert done.returncode == 0 and done.stdout.startswith("stdin: good: thumbnailer: 2 nodes"), done.stderr


def test_exit_codes_tell_a_difference_from_a_mistake(graph, tmp_path):
    other = tmp_path / "other.yaml"
    other.write_text(GRAPH.replace("times: 2", "times: 3"))
    assert flow("diff", graph, graph).returncode == 0
    assert flow("diff", graph, other).returncode == 1
    assert flow("diff", graph, "/nonexistent").returncode == 2
    assert flow("diff", graph).returncode == 2
    assert flow("check", "/nonexistent").returncode == 1
