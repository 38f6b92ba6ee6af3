"""The form of tags: policy-engine/tag/vectors.json, which other implementations are tested with, is what a second one in
Python makes."""

import pathlib
import subprocess

import guard

ROOT = pathlib.Path(__file__).resolve().parents[2]


def test_the_vectors_are_those_of_the_second_implementation():
    checked = subprocess.run(
        [guard.PYTHON, ROOT / "policy-engine" / "tag" / "vectors.py", "--check"], capture_output=True, text=True
    )
    assert checked.returncode == 0, checked.stderr
