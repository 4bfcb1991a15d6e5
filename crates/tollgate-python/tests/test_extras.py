"""Modules of extras that are not installed."""

from __future__ import annotations

import subprocess
import sys

import pytest

EXTRAS = [
    ("client", "httpx"),
    ("fastapi", "fastapi"),
    ("flask", "flask"),
    ("grpc", "grpc"),
    ("langchain", "langchain_core"),
    ("limits", "limits"),
    ("litellm", "litellm"),
]


@pytest.mark.parametrize(("extra", "missing"), EXTRAS)
def test_an_extra_that_is_missing_is_named(extra: str, missing: str) -> None:
    program = f"""
import sys
sys.modules[{missing!r}] = None
try:
    import tollgate.{extra}
except ImportError as error:
    print(type(error).__name__, error, type(error.__cause__).__name__, sep="|")
"""
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    name, message, cause = run.stdout.strip().split("|")
    assert (name, cause) == ("ImportError", "ModuleNotFoundError")
    assert f"the module {missing}" in message
    assert f"pip install 'tollgate-limiter[{extra}]'" in message
