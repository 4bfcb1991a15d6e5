"""Redis servers and Tollgate servers for tests, each with a port of its own."""

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


@contextlib.contextmanager
def tollgate_server(folder: Path, *arguments: str) -> Iterator[str]:
    """Run `tollgate serve` and yield its address."""
    program = os.environ.get("TOLLGATE_BIN")
    assert program, "TOLLGATE_BIN does not name a server; accepted: the path of a built `tollgate`"
    log = folder / "server.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [program, "serve", "--http", "127.0.0.1:0", *arguments],
            stdout=output,
            stderr=output,
            cwd=folder,
        )
    try:
        deadline = time.monotonic() + START_SECONDS
        while True:
            found = re.search(r"http://127\.0\.0\.1:\d+", log.read_text())
            if found:
                break
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.01)
        yield found.group()
    finally:
        process.terminate()
        process.wait()
