"""Redis servers, Tollgate servers and mock models for tests, each with a port of its own."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# Far above the time that a server takes to start on a busy machine.
START_SECONDS = 60


class Redis:
    """A redis-server at a port of 127.0.0.1, in a folder of its own."""

    def __init__(self, folder: Path, password: str | None = None) -> None:
        program = os.environ.get("TOLLGATE_TEST_REDIS_SERVER") or shutil.which("redis-server")
        assert program, "redis-server is missing; accepted: what `scripts/setup tests` installs"
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        self.socket = folder / "redis.sock"
        command = [program, "--port", str(self.port), "--bind", "127.0.0.1", "--save", ""]
        command += ["--unixsocket", str(self.socket), "--dir", str(folder)]
        if password:
            command += ["--requirepass", password]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        self.url = f"redis://127.0.0.1:{self.port}"
        deadline = time.monotonic() + START_SECONDS
        while True:
            assert self.process.poll() is None, "redis-server ended"
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port)):
                return
            assert time.monotonic() < deadline, "redis-server does not listen"
            time.sleep(0.01)

    def stop_answering(self) -> None:
        """Hang, with connections open."""
        self.process.send_signal(signal.SIGSTOP)

    def end(self) -> None:
        """End the process."""
        self.process.send_signal(signal.SIGCONT)
        self.process.kill()
        self.process.wait()


def _tollgate() -> str:
    program = os.environ.get("TOLLGATE_BIN")
    assert program, "TOLLGATE_BIN does not name a server; accepted: the path of a built `tollgate`"
    return program


@contextlib.contextmanager
def running(command: list[str], log: Path, **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program with its output in `log`, and end it."""
    with log.open("w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, **options)
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


@contextlib.contextmanager
def _listening(command: list[str], log: Path, **options: Any) -> Iterator[str]:
    """Run a server, and yield the address that it prints."""
    with running(command, log, **options) as process:
        deadline = time.monotonic() + START_SECONDS
        while True:
            found = re.search(r"http://127\.0\.0\.1:\d+", log.read_text())
            if found:
                break
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.01)
        yield found.group()


@contextlib.contextmanager
def tollgate_server(folder: Path, *arguments: str) -> Iterator[str]:
    """Run `tollgate serve` and yield its address."""
    command = [_tollgate(), "serve", "--http", "127.0.0.1:0", *arguments]
    with _listening(command, folder / "server.log", cwd=folder) as address:
        yield address


@contextlib.contextmanager
def mock_model(folder: Path, *, tokens: int, pace_ms: int) -> Iterator[str]:
    """Run `tollgate-mock-model`, which is beside the server, and yield its address."""
    program = Path(_tollgate()).with_name("tollgate-mock-model")
    assert program.exists(), f"{program} is missing; accepted: the mock model beside the server"
    command = [str(program), "--listen", "127.0.0.1:0"]
    command += ["--tokens", str(tokens), "--pace-ms", str(pace_ms)]
    with _listening(command, folder / f"model-{pace_ms}.log") as address:
        yield address
