"""Takes the fixtures of tests/support, and with them the lab, into the tests of this folder."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))

from fixtures import *  # noqa: E402,F401,F403
