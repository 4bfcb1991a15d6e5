"""A Tollgate server of the load test's own, over an empty SQLite catalog, on a free port of loopback."""

from __future__ import annotations

import os
import resource
import secrets
import subprocess
import time
from pathlib import Path
from types import TracebackType

import plan
from catalog import Server

STARTS_WITHIN_S = 15.0
# Longer than the 8 s that the server takes at most to answer what is in flight.
ENDS_WITHIN_S = 12.0
# One for each request that is open at once, and some for all else that a process opens.
OPEN_FILES = plan.PARALLEL_CHECKS + 500


class LoadTestError(Exception):
    """What keeps the load test from running: place, problem and what is accepted."""


def raise_open_files() -> None:
    """Raises how many files this process and its children may have open, as far as is needed and allowed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft >= OPEN_FILES or soft == resource.RLIM_INFINITY:
        return
    if hard != resource.RLIM_INFINITY and hard < OPEN_FILES:
        raise LoadTestError(
            f"ulimit -Hn: is {hard:,}, and {plan.PARALLEL_CHECKS:,} requests are to be open at once; "
            f"accepted: {OPEN_FILES:,} or more"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (OPEN_FILES, hard))


class OwnServer:
    """Starts the program, and ends it by its own handle, however the `with` block is left."""

    def __init__(self, program: Path, directory: Path) -> None:
        self._program = program
        self._log = directory / "server.log"
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Server:
        token = secrets.token_urlsafe(24)
        command = [str(self._program), "serve", "--http", "127.0.0.1:0"]
        command += ["--catalog", f"sqlite:{self._directory / 'catalog.db'}"]
        # A variable of the caller's must not make it another server than the one described here.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("TOLLGATE_")}
        with self._log.open("wb") as log:
            try:
                self._process = subprocess.Popen(
                    command,
                    cwd=self._directory,
                    env=environment | {"TOLLGATE_ADMIN_TOKEN": token},
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    # Ctrl-C ends the load test first, and the load test then the server.
                    start_new_session=True,
                )
            except OSError as error:
                raise LoadTestError(
                    f"{self._program}: cannot be run ({error.strerror}); accepted: the program `tollgate`, "
                    "built by `make loadtest` or named by TOLLGATE_BIN"
                ) from error
        try:
            return Server(self._await_address(), token)
        except BaseException:
            self._end()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def check_runs(self) -> None:
        """Refuses to go on without the server."""
        status = None if self._process is None else self._process.poll()
        if status is not None:
            raise LoadTestError(
                f"{self._program}: ended by itself with status {status}; it said:\n{self._said()}"
            )

    def _await_address(self) -> str:
        until_s = time.monotonic() + STARTS_WITHIN_S
        while time.monotonic() < until_s:
            self.check_runs()
            text = self._log.read_text(encoding="utf-8", errors="replace")
            # The line is whole once it has the address of the documentation after that of the server.
            if 'docs="' in text:
                return text.split('http="', 1)[1].split('"', 1)[0]
            time.sleep(0.02)
        raise LoadTestError(
            f"{self._program}: has not said within {STARTS_WITHIN_S:.0f} s where it serves; "
            f"it said:\n{self._said()}"
        )

    def _said(self) -> str:
        lines = self._log.read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join(f"    {line}" for line in lines[-20:])

    def _end(self) -> None:
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(ENDS_WITHIN_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
