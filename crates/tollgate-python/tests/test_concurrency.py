"""Many threads, forks, and the end of the interpreter."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tollgate import MultiTierRateLimiter, RateLimiter


@pytest.mark.parametrize("limit", [1, 7, 1_000])
def test_32_threads_get_exactly_the_limit(limit: int) -> None:
    limiter = RateLimiter(limit, 3600)
    start = threading.Barrier(32)

    def ask(_: int) -> int:
        start.wait()
        return sum(limiter.allow("alice", "gpt-4") for _ in range(200))

    with ThreadPoolExecutor(32) as threads:
        assert sum(threads.map(ask, range(32))) == limit
    assert limiter.get_metrics()["total"] == 32 * 200


def test_32_threads_with_users_of_their_own_do_not_disturb_each_other() -> None:
    limiter = RateLimiter(50, 3600)

    def ask(thread: int) -> int:
        return sum(limiter.allow(f"user {thread}", "gpt-4") for _ in range(100))

    with ThreadPoolExecutor(32) as threads:
        assert list(threads.map(ask, range(32))) == [50] * 32


def test_threads_with_a_clock_in_python_do_not_block_each_other() -> None:
    def clock() -> float:
        # Other threads run while this one computes.
        return 1_000.0 + sum(range(1_000)) * 0

    limiter = RateLimiter(100, 3600, clock=clock)

    def ask(_: int) -> int:
        return sum(limiter.allow("alice", "gpt-4") for _ in range(50))

    with ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(ask, range(8))) == 100


def test_threads_charge_both_limits_or_none() -> None:
    limiter = MultiTierRateLimiter(per_user_model=(10, 3600), per_model=(100, 3600))

    def ask(thread: int) -> int:
        return sum(limiter.allow(f"user {thread}", "gpt-4")[0] for _ in range(30))

    with ThreadPoolExecutor(32) as threads:
        admitted = list(threads.map(ask, range(32)))
    assert sum(admitted) == 100
    assert limiter.get_model_request_count("gpt-4") == 100
    counts = [limiter.get_request_count(f"user {thread}", "gpt-4") for thread in range(32)]
    assert counts == admitted


def test_resets_of_other_users_disturb_nobody() -> None:
    limiter = RateLimiter(100, 3600)
    ended = threading.Event()

    def reset() -> None:
        while not ended.is_set():
            limiter.reset_user("bob")

    resetting = threading.Thread(target=reset)
    resetting.start()
    assert sum(limiter.allow("alice", "gpt-4") for _ in range(5_000)) == 100
    ended.set()
    resetting.join()


def run(program: str) -> subprocess.CompletedProcess[str]:
    """Run `program` in an interpreter of its own."""
    command = [sys.executable, "-c", textwrap.dedent(program)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_fork_has_a_copy_of_the_usage() -> None:
    ended = run("""
        import os, sys
        from tollgate import RateLimiter
        limiter = RateLimiter(3, 3600)
        assert limiter.allow("alice", "gpt-4")
        child = os.fork()
        if child == 0:
            admitted = sum(limiter.allow("alice", "gpt-4") for _ in range(5))
            os._exit(admitted)
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 2
        assert limiter.get_request_count("alice", "gpt-4") == 1
    """)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_a_fork_while_threads_ask_works_in_the_child() -> None:
    ended = run("""
        import os, threading, warnings
        from tollgate import RateLimiter
        warnings.simplefilter("ignore")
        limiter = RateLimiter(1_000_000, 3600)
        ended = False
        def ask():
            while not ended:
                limiter.allow("alice", "gpt-4")
        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        for _ in range(20):
            child = os.fork()
            if child == 0:
                limiter.allow("alice", "gpt-4")
                limiter.reset_user("alice")
                os._exit(0)
            _, status = os.waitpid(child, 0)
            assert status == 0
        ended = True
        for thread in threads:
            thread.join()
    """)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_the_interpreter_ends_while_threads_ask() -> None:
    ended = run("""
        import threading
        from tollgate import RateLimiter
        limiter = RateLimiter(1_000_000, 3600)
        def ask():
            while True:
                limiter.allow("alice", "gpt-4")
        for _ in range(4):
            threading.Thread(target=ask, daemon=True).start()
    """)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_the_interpreter_ends_while_a_daemon_thread_is_denied(tmp_path: Path) -> None:
    policies = tmp_path / "policies.yaml"
    policies.write_text("policies: [{id: none, per: [user], limit: 0, windowSeconds: 60}]")
    program = f"""
        import threading, tollgate
        limiter = tollgate.PolicyLimiter.from_file({str(policies)!r})
        begun = threading.Event()
        def ask():
            while True:
                try:
                    limiter.reserve("alice")
                except tollgate.RateLimitExceeded:
                    begun.set()
        for _ in range(2):
            threading.Thread(target=ask, daemon=True).start()
        begun.wait()
        """
    # Which thread holds Python's lock at the end differs.
    for _ in range(5):
        ended = run(program)
        assert (ended.returncode, ended.stderr) == (0, "")
