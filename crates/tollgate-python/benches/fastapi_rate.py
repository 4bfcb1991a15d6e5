"""What the dependency costs a FastAPI application: its requests a second with it and without.

`scripts/python bench` runs it, with a release build. Each application is a process with a worker of
uvicorn; this process asks it over 32 connections. The applications take turns, so that what else
the machine does meets all of them. A worker uses one processor, so its requests per second of
processor time are its rate on a machine that does nothing else.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fastapi
import uvicorn
from tollgate import AsyncRedisRateLimiter, RateLimiter
from tollgate.asgi import RateLimitMiddleware, Scope
from tollgate.fastapi import RateLimit

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from servers import START_SECONDS, Redis, running

GOAL = 0.9
ROUNDS = 7
SECONDS = 2.0
CONNECTIONS = 32
# So many that no request is denied, which would be another measurement.
MANY = 1_000_000_000
REQUEST = b"GET /models/gpt-4 HTTP/1.1\r\nhost: test\r\nx-user: alice\r\n\r\n"
ANSWER = b'{"model":"gpt-4"}'


def key(request: fastapi.Request) -> dict[str, str]:
    """Name a request."""
    return {"user": request.headers["x-user"], "model": request.path_params["model"]}


def key_of_scope(scope: Scope) -> dict[str, str]:
    """Name a request in ASGI."""
    headers = dict(scope["headers"])
    return {"user": headers[b"x-user"].decode(), "model": scope["path"]}


async def nothing(request: fastapi.Request, response: fastapi.Response) -> None:
    """Stand for a dependency that does nothing: what FastAPI takes for any."""


def serve(kind: str, redis_url: str) -> None:
    """Serve an application until the process ends."""
    dependencies = []
    if kind == "nothing":
        dependencies = [fastapi.Depends(nothing)]
    elif kind == "memory":
        dependencies = [fastapi.Depends(RateLimit(RateLimiter(MANY, 3600), key))]
    elif kind == "redis":
        limiter = AsyncRedisRateLimiter(redis_url, MANY, 3600, algorithm="sliding_window_counter")
        dependencies = [fastapi.Depends(RateLimit(limiter, key))]
    app = fastapi.FastAPI()

    @app.get("/models/{model}", dependencies=dependencies)
    async def answer(model: str) -> dict[str, str]:
        return {"model": model}

    served: Any = app
    if kind == "asgi":
        served = RateLimitMiddleware(app, RateLimiter(MANY, 3600), key_of_scope)
    uvicorn.run(served, host="127.0.0.1", port=0, access_log=False)


@contextlib.contextmanager
def application(folder: Path, kind: str, redis_url: str) -> Iterator[tuple[int, int]]:
    """Run an application, and yield its process and its port."""
    log = folder / f"{kind}.log"
    command = [sys.executable, __file__, kind, redis_url]
    with running(command, log, stdin=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + START_SECONDS
        while not (found := re.search(r"http://127\.0\.0\.1:(\d+)", log.read_text())):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        yield process.pid, int(found.group(1))


def processor_seconds(process: int) -> float:
    """Return the processor time that a process has used."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    # utime and stime of proc(5).
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Connection(asyncio.Protocol):
    """Sends the next request when it has the answer to the last."""

    answers = 0

    def __init__(self) -> None:
        """Begin without an answer."""
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the first request."""
        assert isinstance(transport, asyncio.WriteTransport)
        self._transport = transport
        transport.write(REQUEST)

    def data_received(self, data: bytes) -> None:
        """Send the next request if the answer is whole."""
        self._received += data
        if self._received.endswith(ANSWER):
            assert self._received.startswith(b"HTTP/1.1 200"), self._received
            self._received = b""
            self.answers += 1
            self._transport.write(REQUEST)

    def close(self) -> None:
        """End the connection."""
        self._transport.close()


async def rates(process: int, port: int) -> tuple[float, float]:
    """Return the requests per second, and per second of the application's processor time."""
    loop = asyncio.get_running_loop()
    made = [
        (await loop.create_connection(Connection, "127.0.0.1", port))[1] for _ in range(CONNECTIONS)
    ]
    before = sum(one.answers for one in made), time.perf_counter(), processor_seconds(process)
    await asyncio.sleep(SECONDS)
    after = sum(one.answers for one in made), time.perf_counter(), processor_seconds(process)
    for one in made:
        one.close()
    answers, seconds, used = (end - begin for begin, end in zip(before, after, strict=True))
    return answers / seconds, answers / used


def main() -> None:
    """Measure, and print."""
    kinds = ["plain", "nothing", "memory", "redis", "asgi"]
    measured: dict[str, list[tuple[float, float]]] = {kind: [] for kind in kinds}
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        redis = Redis(folder)
        stack.callback(redis.end)
        workers = {
            kind: stack.enter_context(application(folder, kind, redis.url)) for kind in kinds
        }
        # The first round warms up.
        for _ in range(ROUNDS + 1):
            for kind in kinds:
                measured[kind].append(asyncio.run(rates(*workers[kind])))
    print("FastAPI, requests a second, and per second of the worker's processor time:")
    for kind in kinds:
        rounds = measured[kind][1:]
        wall, processor = (statistics.median(rates) for rates in zip(*rounds, strict=True))
        line = f"  {kind:7}  {wall:8,.0f}  {processor:8,.0f}"
        if kind != "plain":
            plain = measured["plain"][1:]
            shares = [one[1] / other[1] for one, other in zip(rounds, plain, strict=True)]
            share = statistics.median(shares)
            line += f"  {share:.3f} of plain ({min(shares):.3f} to {max(shares):.3f})"
        if kind == "memory":
            line += f"; goal {GOAL}: {'yes' if share >= GOAL else 'no'}"
        print(line)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        serve(sys.argv[1], sys.argv[2])
    else:
        main()
