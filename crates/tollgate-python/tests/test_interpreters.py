"""Interpreters besides the main one of a process."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

# In a process of its own: what is wrong here ends the process.
PROGRAM = """
import sys
try:
    import _interpreters as interpreters
except ImportError:
    import _xxsubinterpreters as interpreters
kind, is_first = sys.argv[1], sys.argv[2] == "first"

def create():
    if sys.version_info >= (3, 13):
        return interpreters.create(kind)
    return interpreters.create(isolated=kind == "isolated")

def use():
    import tollgate
    limiter = tollgate.RateLimiter(1, 60)
    return [limiter.allow("alice", "gpt-4") for _ in range(2)]

if not is_first:
    print(use())
for _ in range(3):
    one = create()
    interpreters.run_string(one, '''if True:
        try:
            import tollgate
        except ImportError as error:
            print(error, flush=True)
    ''')
    interpreters.destroy(one)
print(use())
"""


@pytest.mark.parametrize("kind", ["isolated", "legacy"])
@pytest.mark.parametrize("order", ["first", "later"])
def test_a_subinterpreter_is_refused_and_the_main_one_goes_on(kind: str, order: str) -> None:
    command = [sys.executable, "-c", textwrap.dedent(PROGRAM), kind, order]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    works = "[True, False]"
    assert lines.count(works) == (1 if order == "first" else 2)
    refused = [line for line in lines if line != works]
    message = "tollgate is imported in a subinterpreter; accepted: the main interpreter"
    assert [line.startswith(message) for line in refused] == [True] * 3
