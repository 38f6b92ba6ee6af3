"""For attacks on files: the guard's own lie in a folder that belongs to the user of the guarded command."""

import os

import lab


def run(script, timeout=20):
    """For Session.do: a shell script inside, and what it said."""
    import subprocess

    done = subprocess.run(["timeout", str(timeout), "bash", "-c", script], capture_output=True, text=True)
    return done.stdout + done.stderr


def owned_folder(bench, name):
    folder = bench.folder / name
    folder.mkdir()
    return folder


def give(bench, *paths):
    """Makes them the property of the user who runs guard and command."""
    if bench.user == "ordinary":
        for path in paths:
            os.chown(path, lab.ORDINARY_UID, lab.ORDINARY_UID)
