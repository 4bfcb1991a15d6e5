"""Runs the three scenarios against a real server, one after the other, and says whether the limits held.

    make loadtest                                       builds the server, starts one of its own, and ends it
    HOST=http://… TOLLGATE_ADMIN_TOKEN=… make loadtest  uses a server that runs already
    loadtest/run.py --scenario upgrade                  only this one

Ends with 0 if every check passed, with 1 if one did not, with 2 if the load test could not run.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import plan
from catalog import AdminError, Server
from judge import Row, judge
from record import Record
from server import LoadTestError, OwnServer, raise_open_files

HERE = Path(__file__).resolve().parent
TITLES = {
    "services": "A  100 free users on payments, and marketing beside it",
    "upgrade": "B  a user is raised to enterprise under load",
    "parallel": "C  5,000 parallel checks on one API key",
}
# For Locust to start, to set up, to connect, to tear down and to end, beside the scenario's own bound.
BESIDE_THE_RUN_S = 10.0
# Locust finishes what it does when it is told to end; after that it is made to.
LOCUST_ENDS_WITHIN_S = 5.0
WIDTHS = (46, 16)


def main() -> int:
    arguments = _arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    started_s = time.monotonic()
    try:
        if importlib.util.find_spec("locust") is None:
            raise LoadTestError(
                f"{sys.executable}: has no locust; accepted: target/locust/bin/python, which "
                "`scripts/setup loadtest` makes"
            )
        raise_open_files()
        rows = _run_all(arguments.scenario or plan.SCENARIOS)
    except (LoadTestError, AdminError) as error:
        print(f"loadtest: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("loadtest: interrupted", file=sys.stderr)
        return 130
    failed = sum(row.passed is False for row in rows)
    checks = sum(row.passed is not None for row in rows)
    took_s = time.monotonic() - started_s
    print(f"{checks - failed} of {checks} checks passed, {failed} failed, in {took_s:.1f} s")
    return 1 if failed else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Runs and judges the load test.")
    parser.add_argument(
        "--scenario", choices=plan.SCENARIOS, action="append", help="only this one; may be repeated"
    )
    return parser.parse_args()


def _run_all(scenarios: list[str] | tuple[str, ...]) -> list[Row]:
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="tollgate-loadtest-") as name:
        directory = Path(name)
        with _server(directory) as server:
            print(f"server {server.url}\n", flush=True)
            for scenario in scenarios:
                seen = judge(_run(scenario, server, directory))
                _print_table(TITLES[scenario], seen)
                rows += seen
    return rows


@contextlib.contextmanager
def _server(directory: Path) -> Iterator[Server]:
    """The server of HOST with the token of TOLLGATE_ADMIN_TOKEN, or else one of its own."""
    host = os.environ.get("HOST", "")
    if host:
        yield _other_server(host)
        return
    program = os.environ.get("TOLLGATE_BIN", "")
    if not program:
        raise LoadTestError(
            "TOLLGATE_BIN: is not set; accepted: the path of the program `tollgate`, which `make loadtest` "
            "builds, or in HOST the URL of a server that runs"
        )
    own = OwnServer(Path(program).resolve(), directory)
    with own as server:
        try:
            yield server
        except LoadTestError:
            # A server that has ended explains whatever went wrong after that.
            own.check_runs()
            raise
        own.check_runs()


def _other_server(host: str) -> Server:
    url = urlsplit(host)
    if url.scheme not in ("http", "https") or not url.hostname or url.path.strip("/"):
        raise LoadTestError(
            f"HOST: {host!r} is no server's URL; accepted: such as http://127.0.0.1:8000, or nothing"
        )
    token = os.environ.get("TOLLGATE_ADMIN_TOKEN", "")
    if not token:
        raise LoadTestError(
            f"TOLLGATE_ADMIN_TOKEN: is not set; accepted: the token that may change {host}'s catalog"
        )
    server = Server(host.rstrip("/"), token)
    server.call("GET", "/admin/tenants?limit=1")
    return server


def _run(scenario: str, server: Server, directory: Path) -> Record:
    """Runs Locust in a process of its own, which alone is patched by gevent, and reads what it has seen."""
    record, log = directory / f"{scenario}.json", directory / f"{scenario}.log"
    command = [sys.executable, "-m", "locust", "--locustfile", str(HERE / "locustfile.py"), "--headless"]
    command += ["--only-summary", "--host", server.url, "--scenario", scenario, "--record", str(record)]
    # Settings of the caller's for Locust must not make it another load.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LOCUST_")}
    environment |= {"TOLLGATE_ADMIN_TOKEN": server.token, "PYTHONDONTWRITEBYTECODE": "1"}
    with log.open("wb") as output:
        locust = subprocess.Popen(
            command,
            cwd=directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        status: int | str = locust.wait(plan.RUN_AT_MOST_S[scenario] + BESIDE_THE_RUN_S)
    except subprocess.TimeoutExpired:
        status = "none, as it did not end in time"
    finally:
        _end(locust)
    if not record.exists():
        raise LoadTestError(
            f"locust, scenario {scenario}: ended with status {status}; it said:\n{_said(log)}"
        )
    return Record.read(record)


def _said(log: Path) -> str:
    """What Locust has called an error, or else its last lines."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    errors = [line for line in lines if "/ERROR/" in line]
    return "\n".join(f"    {line}" for line in (errors or lines)[-20:])


def _end(locust: subprocess.Popen[bytes]) -> None:
    """Ends Locust if it runs still; it then removes what it has made on the server."""
    if locust.poll() is not None:
        return
    locust.terminate()
    try:
        locust.wait(LOCUST_ENDS_WITHIN_S)
    except subprocess.TimeoutExpired:
        locust.kill()
        locust.wait()


def _print_table(title: str, rows: list[Row]) -> None:
    what, wanted = WIDTHS
    verdicts = {True: "ok", False: "FAILED", None: ""}
    print(title)
    print(f"  {'':6}  {'':{what}}  {'wanted':{wanted}}  got")
    for row in rows:
        print(f"  {verdicts[row.passed]:6}  {row.what:{what}}  {row.wanted:{wanted}}  {row.got}".rstrip())
    print(flush=True)


if __name__ == "__main__":
    sys.exit(main())
