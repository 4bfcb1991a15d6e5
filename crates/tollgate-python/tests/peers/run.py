"""Run the suites of `limits` and Flask-Limiter with their storage in memory, then with Tollgate's.

    python run.py FOLDER        FOLDER holds the source distributions as `pip download` left them

Fails if a test passes with their storage and not with Tollgate's. Prints the counts, and each
difference. Tests that need a server in a container are left out.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
from collections import Counter
from pathlib import Path

# What runs of each distribution, and the arguments of pytest. What is left out of `limits` tests
# the parsing of limits, other storages, or that the storage in memory can be pickled.
SUITES = {
    "limits": [
        "tests/test_strategy.py",
        "tests/test_storage.py",
        "tests/aio/test_strategy.py",
        "tests/aio/test_storage.py",
        "tests/integration/test_concurrency.py",
        "-k",
        "memory or not uri and not redis and not memcached and not mongodb and not valkey",
    ],
    "flask_limiter": ["tests"],
}
# The tests of Flask-Limiter move the clock themselves.
CLOCKS = {"limits": "virtual", "flask_limiter": "real"}
# Far above the time that a suite takes on a busy machine.
SUITE_SECONDS = 900


def extract(folder: Path, name: str) -> Path:
    """Extract the tests of a distribution, without its code: the installed one is tested."""
    (archive,) = folder.glob(f"{name}-*.tar.gz")
    extracted = folder / archive.name.removesuffix(".tar.gz")
    with tarfile.open(archive) as tar:
        members = [
            member
            for member in tar.getmembers()
            if member.name.startswith(f"{extracted.name}/tests/")
            or member.name == f"{extracted.name}/pytest.ini"
        ]
        tar.extractall(folder, members, filter="data")
    return extracted


def run(suite: Path, name: str, storage: str) -> dict[str, str]:
    """Return the outcome of each test."""
    report = suite / f"{storage}.json"
    report.unlink(missing_ok=True)
    here = Path(__file__).parent
    environment = {
        **os.environ,
        "PYTHONPATH": str(here),
        "TOLLGATE_PEERS_CLOCK": CLOCKS[name],
        "TOLLGATE_PEERS_STORAGE": storage,
        "TOLLGATE_PEERS_REPORT": str(report),
    }
    command = [sys.executable, "-m", "pytest", "-p", "peers_plugin", "-o", "addopts=", "-q"]
    # It writes below the folder of the suite only.
    command += ["-p", "no:cacheprovider", "--tb=short"]
    # Warnings of plugins that are newer than the suite would end it.
    command += ["-o", "filterwarnings=default", *SUITES[name]]
    with (suite / f"{storage}.log").open("w") as log:
        subprocess.run(
            command,
            cwd=suite,
            env=environment,
            stdout=log,
            stderr=log,
            timeout=SUITE_SECONDS,
            check=False,
        )
    outcomes: dict[str, str] = json.loads(report.read_text())
    return outcomes


def compare(name: str, folder: Path) -> int:
    """Run a suite twice, and return how many tests pass only with their storage."""
    suite = extract(folder, name)
    theirs = run(suite, name, "memory")
    ours = run(suite, name, "tollgate")
    for storage, outcomes in ("memory://", theirs), ("tollgate://", ours):
        counts = sorted(Counter(outcomes.values()).items())
        shown = ", ".join(f"{number} {outcome}" for outcome, number in counts)
        print(f"{suite.name} with {storage}: {shown}")
    worse = 0
    for test in sorted(theirs.keys() | ours.keys()):
        before, after = theirs.get(test, "missing"), ours.get(test, "missing")
        if before != after:
            print(f"  {test}: {before} with memory://, {after} with tollgate://")
            worse += before == "passed"
    passed = list(theirs.values()).count("passed")
    if not passed:
        print(f"{suite.name}: no test passes; see {suite}/memory.log")
    return worse + (not passed)


def main() -> None:
    """Run all suites."""
    folder = Path(sys.argv[1])
    worse = sum(compare(name, folder) for name in SUITES)
    if worse:
        sys.exit(f"{worse} tests pass only with their storage; the logs are in {folder}")


if __name__ == "__main__":
    main()
