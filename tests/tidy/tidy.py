#!/usr/bin/env python3
"""The house rules that a machine can check, as a test: `ctest -R tidy`, `./dev lint`, or this program alone.

Every ban says why it exists and carries a line that it must catch and one that it must not; both are tried on each
run. Where a ban is wrong for one line, that line (or the one above it) says so in a comment that holds the reason:

    // tidy:allow(naked-new): OpenSSL takes ownership and frees it with delete
"""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
COLUMNS_MAX = 120
TEST_COLUMNS_MAX = 140  # a request or a document on one line reads better than a wrapped one
FILE_BYTES_MAX = 256 * 1024

LIBRARIES = ("base/", "ca/", "policy-engine/", "proxy/", "controller/")
PURE = ("policy-engine/", "ca/")  # they compute; what they need from the outside comes in as an argument
CXX = (".cc", ".h")
TEXT = (".cc", ".h", ".py", ".sh", ".md", ".yaml", ".json", ".proto", ".cmake", ".txt", ".js", ".java",
        ".go", ".rs", ".toml", ".rb", ".php", ".pl", ".cs", "")
SUFFIXES = TEXT + (".mod", ".sum", ".png", ".svg", ".gitignore", ".clang-tidy", ".clang-format")


@dataclass(frozen=True)
class Ban:
    name: str
    pattern: str
    reason: str  # what is wrong with it and what to write instead
    catches: str
    spares: str
    suffixes: tuple = CXX
    within: tuple = ("",)  # path prefixes
    outside: tuple = ()  # path prefixes
    in_tests: bool = True  # whether x_test.cc and tests/ are held to it
    in_comments: bool = False  # whether text after // or # counts
    in_strings: bool = False  # whether the inside of "…" counts


MAINS = ("cli/", "proxy/main.cc", "controller/main.cc", "tests/", "load/")

BANS = (
    Ban("std-regex", r"\bstd::(regex|smatch|cmatch|regex_\w+)\b|#include <regex>",
        "backtracks for ever on hostile input; use RE2",
        catches="std::regex r;", spares="re2::RE2 r;"),
    Ban("unbounded-copy", r"\b(strcpy|strcat|sprintf|vsprintf|gets|strtok|alloca)\s*\(",
        "writes without a bound or hides state; use std::string, std::span or std::string_view",
        catches="strcpy(a, b);", spares="snprintf(a, sizeof a, b);", in_tests=False),
    Ban("lenient-number", r"\b(ato(i|l|ll|f)|strtou?ll?|strtod|sto([idlf]|u?ll?)|sscanf)\s*\(",
        "takes signs, blanks and rubbish after the number, or throws; use std::from_chars and check the end",
        catches="int n = std::stoi(s);", spares="std::from_chars(a, b, n);", in_tests=False),
    Ban("prints", r"\bstd::(cout|cerr|clog)\b|#include <iostream>|(?<![\w:.>])(std::)?(printf|puts|perror)\s*\(",
        "a library returns what it has to say; only programs print",
        catches="std::cerr << x;", spares="std::snprintf(a, n, f);", within=LIBRARIES, outside=MAINS, in_tests=False),
    Ban("asio-outside-admin", r"\bboost/(asio|beast)|\b(asio|beast)::",
        "each file that sees Asio or Beast costs ten seconds of compile time; only the admin listener may",
        catches="#include <boost/asio.hpp>", spares="#include <boost/url.hpp>",
        outside=("proxy/guard/admin", "tests/")),
    Ban("naked-new", r"^(?!.*(_ptr<[^;]*>[\s\w]*|\breset)\s*\(\s*new\b).*(?<![\w.>])new\s+(?!\()[A-Za-z_:]",
        "nobody owns it; use std::make_unique, a smart pointer on the same line, or a value",
        catches="auto* p = new Thing();", spares="return std::unique_ptr<Thing>(new Thing());", in_tests=False),
    Ban("naked-delete", r"(?<!= )(?<!operator )\bdelete\s*(\[\])?\s+?[A-Za-z_(*]",
        "ownership belongs to a type; use std::unique_ptr",
        catches="delete p;", spares="Thing(const Thing&) = delete;", in_tests=False),
    Ban("format-library", r"#include <(format|print)>",
        "libstdc++ 12 does not have it; use std::to_string and +=",
        catches="#include <format>", spares="#include <string>"),
    Ban("using-namespace", r"^\s*using namespace (?!std::(\w+_)?literals)",
        "in a header it changes every file that includes it",
        catches="using namespace std;", spares="using namespace std::chrono_literals;", suffixes=(".h",)),
    Ban("relative-include", r'#include "\.{1,2}/',
        "include paths start at the root of the repository",
        catches='#include "../base/error.h"', spares='#include "base/error.h"', in_strings=True),
    Ban("throws", r"(?<!\w)throw\s+\w",
        "nothing of ours throws: return Result<T>",
        catches="throw Bad();", spares="return fail(kind, text);", within=LIBRARIES,
        outside=("policy-engine/document/",), in_tests=False),  # yaml-cpp's way; it ends in load_policy()
    Ban("asserts", r"(?<![\w.])assert\s*\(",
        "untrusted input is handled and tested; where a caller could be wrong, make it a type",
        catches="assert(n > 0);", spares="static_assert(n > 0);", within=LIBRARIES, in_tests=False),
    Ban("engine-socket", r"#include <(sys/(socket|un|epoll|select|poll)|netdb|poll)\.h>",
        "policy-engine and ca have no sockets; proxy/ has them",
        catches="#include <sys/socket.h>", spares="#include <netinet/in.h>", within=PURE, in_tests=False),
    Ban("engine-thread",
        r"#include <(thread|mutex|shared_mutex|condition_variable|future|semaphore|stop_token|pthread\.h)>",
        "policy-engine and ca have no threads: callers decide who runs what",
        catches="#include <mutex>", spares="#include <memory>", within=PURE, in_tests=False),
    Ban("engine-clock",
        r"\b\w+_clock::now\b|(?<![\w.:>])(std::)?time\s*\(\s*(nullptr|NULL|0|&)|\bclock_gettime\s*\(",
        "policy-engine and ca are told the time as an argument, so that tests can tell another one",
        catches="auto t = std::chrono::system_clock::now();", spares="void at(std::chrono::system_clock::time_point);",
        within=PURE, in_tests=False),
    Ban("engine-file", r"#include <(fstream|filesystem|fcntl\.h)>|\b(fopen|BIO_new_file|SSL_CTX_use_\w*_file)\s*\(",
        "policy-engine and ca are given bytes; their callers read files",
        catches="#include <fstream>", spares="#include <span>", within=PURE, in_tests=False),
    Ban("sleeps", r"\bthis_thread::sleep_|(?<![\w:.>])(::)?(usleep|nanosleep)\s*\(|(?<![\w:.>])::sleep\s*\(",
        "a worker that sleeps stops all of its connections; wait on the loop",
        catches="std::this_thread::sleep_for(1s);", spares="co_await sleep(loop, delay);", within=LIBRARIES,
        outside=("proxy/run/",), in_tests=False),
    Ban("unfinished", r"\b(TO" r"DO|FIX" r"ME|XX" r"X|HA" r"CK)\b",
        "finish it, or file an issue that says what is missing",
        catches="// TO" "DO: later", spares="// what is missing and why", suffixes=TEXT, in_comments=True,
        in_strings=True),
    Ban("private-key", r"^-{5}BEGIN [A-Z ]*PRIVATE KEY-{5}|BEGIN [A-Z ]*PRIVATE KEY-{5}\\n[A-Za-z0-9+/]{16}",
        "keys are made at run time, never committed",
        catches="-" * 5 + "BEGIN PRIVATE KEY" + "-" * 5, spares="a PRIVATE KEY block", suffixes=TEXT, in_comments=True,
        in_strings=True),
    Ban("home-path", r"(?<![\w.\-])/(home|Users)/(?!user\b|somebody\b)[a-z]\w*/|(?<![\w.\-/])/(root)/",
        "somebody's machine; use a path of the repository or a temporary folder",
        catches="cd /home" "/alice/src", spares="the folders below /home", suffixes=TEXT, in_comments=True,
        in_strings=True),
    Ban("registry", r"\b(pypi|npmjs|crates|debian|maven|(?<!google\.)golang|docker|nodesource)\.(org|com|io|dev)\b(?!/x/)",
        "packages come from wherever the machine is set up for",
        catches="https://deb.debian." "org/x", spares="a Debian package, golang.org/x/net", suffixes=TEXT,
        in_comments=True, in_strings=True),
)

# Which folder may include which: dependencies point one way.
MAY_INCLUDE = {
    "base": {"base"},
    "ca": {"base", "ca"},
    "policy-engine": {"base", "policy-engine"},
    "proxy": {"base", "ca", "policy-engine", "proxy", "controller/api"},
    # Of the proxy what knows nothing of guards (docs/decisions/0009), and the guard's end of the link for one process.
    "controller": {"base", "ca", "policy-engine", "proxy/net", "proxy/http1", "proxy/link", "controller"},
    "cli": {"base", "ca", "policy-engine", "proxy", "controller", "cli"},
    "load": {"base", "ca", "policy-engine", "proxy", "controller", "load"},
    "tests": {"base", "ca", "policy-engine", "proxy", "controller", "cli", "tests"},
}
# Within the policy engine the leaves know nothing of the rest.
ENGINE_MAY_INCLUDE = {
    "request": {"request"},
    "credentials": {"request", "credentials"},
}

ALLOW = re.compile(r"tidy:allow\(([\w-]+)\): (\S.{9,})")
STRING = re.compile(r'"(?:[^"\\\n]|\\.)*"')


def repository_files():
    """Tracked and new files, without what is ignored; every file but build trees where there is no git."""
    listed = subprocess.run(["git", "ls-files", "--cached", "--others", "--exclude-standard", "--deduplicate", "-z"],
                            cwd=ROOT, capture_output=True)
    if listed.returncode == 0:
        names = listed.stdout.decode().split("\0")
    else:
        names = [str(path.relative_to(ROOT)) for path in ROOT.rglob("*") if path.is_file()]
        built = re.compile(r"(build|\.git|\.cache)/|.*(__pycache__|\.pytest_cache)/")
        names = [name for name in names if not built.match(name)]
    return sorted(name for name in names if name and (ROOT / name).is_file())


def suffix_of(name):
    return Path(name).suffix or ("" if not Path(name).name.startswith(".") else Path(name).name)


def is_test(name):
    """Tests, and what only they are built from."""
    file = Path(name).name
    return name.startswith("tests/") or file.startswith("test_") or file.endswith(("_test.cc", "_fuzz.cc"))


def code_of(line, ban, suffix):
    """The part of a line that a ban looks at. It knows one line only: not raw strings over several."""
    if not ban.in_strings:
        line = STRING.sub('""', line)
    if not ban.in_comments and suffix in CXX:
        line = re.sub(r"//.*", "", line)
    return line


def applies(ban, name):
    return (suffix_of(name) in ban.suffixes and name.startswith(ban.within)
            and not (ban.outside and name.startswith(ban.outside)) and (ban.in_tests or not is_test(name)))


def check_bans(name, lines):
    suffix = suffix_of(name)
    in_block_comment = False
    bans = [ban for ban in BANS if applies(ban, name)]
    for number, line in enumerate(lines, 1):
        if suffix in CXX and line.lstrip().startswith("/*"):
            in_block_comment = True
        # What clang-format has broken behind a bracket is one piece.
        before = lines[number - 2].rstrip() if number > 1 else ""
        piece = before + line.lstrip() if suffix in CXX and before.endswith("(") else line
        allowed = {match[1] for text in lines[max(number - 2, 0):number] if (match := ALLOW.search(text))}
        for ban in bans:
            if in_block_comment and not ban.in_comments:
                continue
            if ban.name not in allowed and re.search(ban.pattern, code_of(piece, ban, suffix)):
                yield number, f"{ban.name}: {ban.reason}"
        if "*/" in line:
            in_block_comment = False


def check_includes(name, lines):
    folder = name.split("/")[0]
    for number, line in enumerate(lines, 1):
        match = re.match(r'#include "([^"]+)"', line)
        if not match:
            continue
        target = match[1]
        if not target.endswith(".pb.h") and not (ROOT / target).is_file():
            yield number, f"include: no file {target} from the root of the repository"
        may = MAY_INCLUDE.get(folder, set())
        if folder in MAY_INCLUDE and not any(target.startswith(prefix + "/") for prefix in may):
            yield number, f"direction: {folder}/ may include only {', '.join(sorted(may))}"
        part = name.split("/")[1] if name.startswith("policy-engine/") else ""
        leaves = ENGINE_MAY_INCLUDE.get(part)
        if leaves and target.startswith("policy-engine/") and target.split("/")[1] not in leaves:
            yield number, f"direction: policy-engine/{part}/ may include only {', '.join(sorted(leaves))} of the engine"


def check_layout(name, text, lines):
    """Bytes, width, the sentence at the top, and the file's name."""
    suffix = suffix_of(name)
    if "\r" in text:
        yield 1, "line ends: plain newlines only"
    if text and not text.endswith("\n"):
        yield len(lines), "the last line has no newline"
    columns_max = TEST_COLUMNS_MAX if is_test(name) else COLUMNS_MAX
    # clang-format wraps what can be wrapped; what is left in a test are documents in raw strings.
    any_width = suffix in (".md", ".json", ".svg") or name == "LICENSE" or is_test(name) and suffix in CXX
    for number, line in enumerate(lines, 1):
        if "\t" in line and suffix not in (".go", ".mod"):
            yield number, "tab: indent with spaces"
        if line != line.rstrip():
            yield number, "blanks at the end of the line"
        if len(line) > columns_max and not any_width:
            yield number, f"{len(line)} columns, at most {columns_max}"
    if suffix == ".h" and not (lines and lines[0] == "#pragma once" or name == "base/pch.h"):
        yield 1, "a header starts with #pragma once"
    if suffix in CXX and not re.fullmatch(r"[a-z0-9_]+\.(cc|h)", Path(name).name):
        yield 1, "files are named snake_case"
    if not has_opening_comment(name, suffix, lines):
        yield 1, "the file does not start with a comment that says what it is for"


def has_opening_comment(name, suffix, lines):
    """A .cc beside its header, and a test beside its subject, are explained there."""
    if not lines:
        return True
    head = [line for line in lines[:3] if line and line != "#pragma once" and not line.startswith("#!")]
    first = head[0] if head else ""
    if suffix == ".h":
        return first.startswith("//")
    if suffix == ".cc":
        beside = [ROOT / re.sub(r"(_test|_fuzz)?\.cc$", ending, name) for ending in (".h", ".cc")]
        return first.startswith("//") or any(path.is_file() and path != ROOT / name for path in beside)
    if suffix == ".py":
        return first.startswith(('"""', "#", 'r"""'))
    if suffix in (".js", ".proto"):
        return first.startswith(("//", "syntax", "/*", "#", '"use strict"'))
    if suffix == ".sh":
        return first.startswith("#")
    return True


def check_place(name, text):
    """File modes, suffixes, sizes, and sources that no build knows."""
    path = ROOT / name
    executable = os.access(path, os.X_OK)
    if executable != text.startswith("#!"):
        yield 1, "executable files start with #!, and others are not executable"
    if suffix_of(name) == ".cc":
        scripts = [folder / "CMakeLists.txt" for folder in path.parents if folder == ROOT or ROOT in folder.parents]
        scripts.append(ROOT / "cmake/sallyport.cmake")
        listed = rf"\b{re.escape(path.name)}\b"
        if not any(re.search(listed, script.read_text()) for script in scripts if script.is_file()):
            yield 1, "no CMakeLists.txt above it names this file: dead code, or a test that never runs"


def check_links(name, lines):
    """A document's links to files of the repository lead somewhere."""
    for number, line in enumerate(lines, 1):
        for target in re.findall(r"\]\(([^)#\s]+)", line):
            if "://" not in target and not target.startswith("mailto:"):
                if not (ROOT / name).parent.joinpath(target).exists():
                    yield number, f"link to {target}, which is not there"


def check_this_machine(lines):
    """The folder of this checkout is nobody else's."""
    if len(ROOT.parts) < 3:
        return
    for number, line in enumerate(lines, 1):
        if re.search(rf"{re.escape(str(ROOT))}(?![\w.-])", line):
            yield number, "names the folder of this checkout; use a path of the repository"


def check_file(name):
    path = ROOT / name
    suffix = suffix_of(name)
    if path.stat().st_size > FILE_BYTES_MAX:
        yield 1, f"larger than {FILE_BYTES_MAX} bytes; make it at run time"
    if "/corpus/" in f"/{name}" or suffix == ".png":
        return  # fuzzing inputs and pictures are bytes, not text
    if suffix not in SUFFIXES:
        yield 1, f"unknown kind of file '{suffix}'; add it to tests/tidy/tidy.py if it belongs here"
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines()
    yield from check_layout(name, text, lines)
    yield from check_bans(name, lines)
    yield from check_this_machine(lines)
    yield from check_place(name, text)
    if suffix in CXX:
        yield from check_includes(name, lines)
    if suffix == ".md":
        yield from check_links(name, lines)


def check_headers_used(names):
    """A header that nothing includes is dead."""
    included = set()
    for name in names:
        if suffix_of(name) in CXX:
            included.update(re.findall(r'^#include "([^"]+)"', (ROOT / name).read_text(encoding="utf-8"), re.M))
    for name in names:
        if name.endswith(".h") and name not in included and name != "base/pch.h":
            yield name, 1, "nothing includes this header"


def check_format(names):
    """clang-format, where it is installed; CI always has it."""
    sources = [name for name in names if suffix_of(name) in CXX]
    program = shutil.which("clang-format-19")
    if program is None:
        if os.environ.get("CI"):
            yield ".clang-format", 1, "clang-format-19 is not installed"
        else:
            print("tidy: formatting not checked: clang-format-19 is not installed")
        return
    result = subprocess.run([program, "--dry-run", "--Werror", *sources], cwd=ROOT, capture_output=True, text=True)
    places = re.findall(r"^(\S+?):(\d+):\d+: error", result.stderr, re.M)
    for file, line in sorted(dict(reversed(places)).items()):
        yield file, int(line), "not formatted: run ./dev fmt"


def check_the_bans_themselves():
    for ban in BANS:
        suffix = ban.suffixes[0]
        assert re.search(ban.pattern, code_of(ban.catches, ban, suffix)), f"{ban.name} does not catch: {ban.catches}"
        assert not re.search(ban.pattern, code_of(ban.spares, ban, suffix)), f"{ban.name} does not spare: {ban.spares}"


def main():
    check_the_bans_themselves()
    names = repository_files()
    complaints = [(name, line, what) for name in names for line, what in check_file(name)]
    complaints += check_headers_used(names)
    complaints += check_format(names)
    for name, line, what in complaints:
        print(f"{name}:{line}: {what}")
    print(f"tidy: {len(names)} files, {len(BANS)} bans, {len(complaints)} complaints")
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
