#!/usr/bin/env python3
"""The table of attacks in docs/security.md, as a test: each test that it names is there, and each test of tests/adversary
is in it."""

import ast
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TABLE = ROOT / "docs" / "security.md"
ADVERSARY = ROOT / "tests" / "adversary"
NAMED = re.compile(r"`([\w/]+\.py)(?:::(\w+)(?:\[([^]]+)\])?)?`")


def functions_of(path):
    """The test functions of a file."""
    tree = ast.parse(path.read_text())
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}


def parameter_is_there(source, parameter):
    """A parameter's name is written somewhere in the file; names made of several parts have a dash between them."""
    return parameter in source or all(part in source for part in parameter.split("-"))


def complaints(text):
    named = set()
    for file, function, parameter in NAMED.findall(text):
        if file.startswith("tests/"):
            continue  # prose that names a file of the repository
        path = ROOT / "tests" / file if "/" in file else ADVERSARY / file
        if not path.is_file():
            yield f"{file}: there is no such file"
        elif function and function not in functions_of(path):
            yield f"{file}: there is no {function}"
        elif parameter and not parameter_is_there(path.read_text(), parameter):
            yield f"{file}::{function}: there is no parameter {parameter!r}"
        named.add((file, function))
    for path in sorted(ADVERSARY.glob("test_*.py")):
        for function in sorted(functions_of(path)):
            if (path.name, function) not in named:
                yield f"{path.name}::{function}: not in the table"


def main():
    found = list(complaints(TABLE.read_text()))
    for complaint in found:
        print(f"docs/security.md: {complaint}")
    # The check itself: it sees a name that is wrong, and a test that is missing.
    wrong = list(complaints("`test_paths.py::test_nothing_of_the_kind`, `test_missing.py::test_x`"))
    assert any("test_nothing_of_the_kind" in text for text in wrong) and any("test_missing.py" in text for text in wrong)
    assert any("not in the table" in text for text in wrong)
    print(f"security table: {len(set(NAMED.findall(TABLE.read_text())))} tests named, {len(found)} complaints")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
