"""A plugin of pytest for the suites of `limits` and Flask-Limiter.

With TOLLGATE_PEERS_STORAGE=tollgate, `memory://` and `MemoryStorage` are the storages of Tollgate.
With TOLLGATE_PEERS_CLOCK=virtual, tests that sleep move a clock of their own, so that they take no
time and see the same on every machine. The outcome of each test goes to the file that
TOLLGATE_PEERS_REPORT names.
"""

from __future__ import annotations

import asyncio
import json
import os
import threading
import time
from pathlib import Path

import limits.aio.storage
import limits.storage
import pytest
from limits._storage_scheme import SCHEMES
from tollgate.limits import AsyncTollgateStorage, TollgateStorage

OUTCOMES: dict[str, str] = {}
# How bad an outcome is: a test has one for its preparation, its run and its end.
ORDER = ["passed", "skipped", "failed"]


class Storage(TollgateStorage):
    """`tollgate://`, also at the address of their storage."""

    def __init__(self, uri: str | None = None, wrap_exceptions: bool = False) -> None:
        assert uri in {None, "memory://"}
        super().__init__("tollgate://", wrap_exceptions)


class AsyncStorage(AsyncTollgateStorage):
    """`async+tollgate://`, also at the address of their storage."""

    def __init__(self, uri: str | None = None, wrap_exceptions: bool = False) -> None:
        assert uri in {None, "async+memory://"}
        super().__init__("async+tollgate://", wrap_exceptions)


class VirtualTime:
    """The time that `time.time` shows: it goes on when a test sleeps, and by 1 µs when it looks."""

    def __init__(self) -> None:
        self._now = time.time()
        self._lock = threading.Lock()
        self._yield = asyncio.sleep

    def time(self) -> float:
        """Stand for `time.time`."""
        self.sleep(1e-6)
        return self._now

    def sleep(self, seconds: float) -> None:
        """Stand for `time.sleep`."""
        with self._lock:
            self._now += seconds

    async def sleep_async(self, seconds: float) -> None:
        """Stand for `asyncio.sleep`."""
        self.sleep(seconds)
        await self._yield(0)


@pytest.fixture(autouse=True)
def _virtual_time(monkeypatch: pytest.MonkeyPatch) -> None:
    if os.environ.get("TOLLGATE_PEERS_CLOCK") == "virtual":
        clock = VirtualTime()
        monkeypatch.setattr(time, "time", clock.time)
        monkeypatch.setattr(time, "sleep", clock.sleep)
        monkeypatch.setattr(asyncio, "sleep", clock.sleep_async)


def pytest_configure() -> None:
    """Replace the storage before any test module is imported."""
    if os.environ["TOLLGATE_PEERS_STORAGE"] == "tollgate":
        SCHEMES["memory"] = Storage
        SCHEMES["async+memory"] = AsyncStorage
        limits.storage.MemoryStorage = Storage  # type: ignore[misc, assignment]
        limits.aio.storage.MemoryStorage = AsyncStorage  # type: ignore[misc, assignment]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what needs a server in a container."""
    left_out = [item for item in items if "docker_services" in getattr(item, "fixturenames", ())]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Keep the worst outcome of each test."""
    before = OUTCOMES.get(report.nodeid, "passed")
    OUTCOMES[report.nodeid] = max(before, report.outcome, key=ORDER.index)


def pytest_sessionfinish() -> None:
    """Write the outcomes."""
    Path(os.environ["TOLLGATE_PEERS_REPORT"]).write_text(json.dumps(OUTCOMES))
