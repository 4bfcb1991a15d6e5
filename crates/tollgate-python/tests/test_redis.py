"""Limits in a real Redis, shared with other limiters and with a Tollgate server."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import textwrap
import threading
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import redis
import uvloop
from servers import Redis, tollgate_server
from tollgate import AsyncRedisRateLimiter, RedisRateLimiter, StoreError
from tollgate._redis import url_of

# Far above what a busy machine needs, so that no failure mode decides in tests that count.
PATIENT = 30.0


def limiter(redis_server: Redis, limit: int = 3, **options: Any) -> RedisRateLimiter:
    return RedisRateLimiter(redis_server.url, limit, 3600, timeout=PATIENT, **options)


def test_a_limit_beside_policies_is_refused(redis_server: Redis, tmp_path: Path) -> None:
    for arguments in ((3,), (3, 60)):
        with pytest.raises(ValueError, match=r"a limit is given beside policies"):
            RedisRateLimiter(redis_server.url, *arguments, policies=tmp_path / "policies.yaml")
    with pytest.raises(ValueError, match=r"a limit is given beside catalog"):
        RedisRateLimiter(redis_server.url, window_seconds=60, catalog="sqlite:a.db")


def test_it_allows_up_to_the_limit(redis_server: Redis, user: str) -> None:
    shared = limiter(redis_server)
    assert [shared.allow(user, "gpt-4") for _ in range(4)] == [True, True, True, False]
    assert shared.get_request_count(user, "gpt-4") == 3
    metrics = shared.reset_metrics()
    assert (metrics["allowed"], metrics["denied"], metrics["deny_rate"]) == (3, 1, 0.25)
    assert shared.get_metrics()["total"] == 0


def test_a_decision_has_its_fields(redis_server: Redis, user: str) -> None:
    decision = limiter(redis_server).check(user, "gpt-4", cost=2)
    assert (decision.count, decision.remaining, decision.policy_id) == (2, 1, "default")
    assert not decision.degraded
    assert "ratelimit" in decision.headers()


def test_a_cost_follows_the_model_as_in_memory(redis_server: Redis, user: str) -> None:
    shared = limiter(redis_server)
    assert shared.check(user, "gpt-4", 2).count == 2
    assert not shared.allow(user, "gpt-4", 2)
    assert shared.peek(user, "gpt-4", {"requests": 0}).count == 2
    with shared.reserve(user, "gpt-4", 1) as lease:
        assert lease.decision.count == 3
    with pytest.raises(TypeError, match=r"multiple values for .*cost"):
        shared.allow(user, "gpt-4", 1, cost=1)  # type: ignore[misc]

    async def ask() -> None:
        awaited = AsyncRedisRateLimiter(redis_server.url, 3, 3600, timeout=PATIENT)
        assert (await awaited.peek(user, "gpt-4", 0)).count == 3
        assert not await awaited.allow(user, "gpt-4", 1)
        assert (await awaited.check(user, "gpt-3", 3)).count == 3
        async with awaited.reserve(user, "gpt-5", 2) as held:
            assert held.decision.count == 2

    asyncio.run(ask())


def test_a_count_is_that_of_a_user_and_a_model(redis_server: Redis, user: str) -> None:
    shared, awaited = limiter(redis_server), AsyncRedisRateLimiter(redis_server.url)
    missing: Any = None
    for arguments, name in (((missing, "gpt-4"), "user"), ((user, missing), "model")):
        with pytest.raises(TypeError, match=f"{name} is of the type NoneType; accepted: str"):
            shared.get_request_count(*arguments)
        with pytest.raises(TypeError, match=f"{name} is of the type NoneType; accepted: str"):
            asyncio.run(awaited.get_request_count(*arguments))


def test_limiters_share_their_limits(redis_server: Redis, user: str) -> None:
    limiters = [limiter(redis_server) for _ in range(3)]
    assert sum(shared.allow(user, "gpt-4") for shared in limiters * 3) == 3


def test_other_names_are_other_limits(redis_server: Redis, user: str) -> None:
    first, second = limiter(redis_server, 1), limiter(redis_server, 1, name="other")
    assert first.allow(user, "gpt-4")
    assert second.allow(user, "gpt-4")


def test_a_peek_charges_nothing_and_a_reset_clears(redis_server: Redis, user: str) -> None:
    shared = limiter(redis_server, 1)
    assert shared.peek(user, "gpt-4").allowed
    assert shared.allow(user, "gpt-4")
    assert not shared.peek(user, "gpt-4").allowed
    assert shared.reset(user, "gpt-4") == ["default"]
    assert shared.allow(user, "gpt-4")


def test_a_request_id_is_charged_once(redis_server: Redis, user: str) -> None:
    shared = limiter(redis_server)
    for _ in range(5):
        assert shared.check(user, "gpt-4", request_id=f"{user} 1").count == 1


def test_32_threads_get_exactly_the_limit(redis_server: Redis, user: str) -> None:
    shared = limiter(redis_server, 50)

    def ask(_: int) -> int:
        return sum(shared.allow(user, "gpt-4") for _ in range(5))

    with ThreadPoolExecutor(32) as threads:
        assert sum(threads.map(ask, range(32))) == 50


def test_it_counts_together_with_a_server(redis_server: Redis, user: str, tmp_path: Path) -> None:
    policies = tmp_path / "policies.yaml"
    policies.write_text("policies: [{id: p, per: [user, model], limit: 4, windowSeconds: 3600}]")
    arguments = ["--store", redis_server.url, "--catalog", f"file:{policies}"]
    # On a busy machine, a check could be decided without Redis after the 100 ms that servers wait.
    arguments += ["--store-timeout-ms", "10000"]
    shared = RedisRateLimiter(redis_server.url, policies=policies, timeout=PATIENT)
    with tollgate_server(tmp_path, *arguments) as address:

        def ask_server() -> Any:
            body = json.dumps({"userId": user, "modelId": "gpt-4"}).encode()
            request = urllib.request.Request(
                f"{address}/rate-limit/check", body, {"content-type": "application/json"}
            )
            with urllib.request.urlopen(request) as answer:
                return json.load(answer), dict(answer.headers)

        first, _ = ask_server()
        second = shared.check(user, "gpt-4")
        third, headers = ask_server()
        assert [first["count"], second.count, third["count"]] == [1, 2, 3]
        peeked = shared.peek(user, "gpt-4", cost=0)
        mine = peeked.to_dict()
        for fields in (third, mine, third["limits"][0], mine["limits"][0]):
            fields.pop("resetAfterMs")
        assert mine == third
        assert list(mine) == list(third)
        assert list(mine["limits"][0]) == list(third["limits"][0])
        names = {name for name in headers if "limit" in name.lower()}
        assert {name.lower() for name in names} == set(peeked.headers())
        assert shared.allow(user, "gpt-4")
        assert not shared.allow(user, "gpt-4")


def test_many_tasks_get_exactly_the_limit(redis_server: Redis, user: str) -> None:
    async def ask() -> int:
        shared = AsyncRedisRateLimiter(redis_server.url, 100, 3600, timeout=PATIENT)
        tasks = [asyncio.create_task(shared.allow(user, "gpt-4")) for _ in range(500)]
        return sum(await asyncio.gather(*tasks))

    assert asyncio.run(ask()) == 100


def test_the_async_calls_answer_as_the_others(redis_server: Redis, user: str) -> None:
    async def ask() -> None:
        shared = AsyncRedisRateLimiter(redis_server.url, 3, 3600, timeout=PATIENT)
        assert shared.breaker_state is None
        await shared.connect()
        assert shared.breaker_state == "closed"
        assert (await shared.check(user, "gpt-4")).count == 1
        assert (await shared.peek(user, "gpt-4", cost=3)).reason == "limit_exceeded"
        assert await shared.get_request_count(user, "gpt-4") == 1
        assert await shared.reset(user, "gpt-4") == ["default"]
        assert await shared.allow(user, "gpt-4")
        assert shared.get_metrics()["allowed"] == 2
        with pytest.raises(ValueError, match="names no subject"):
            await shared.check()

    asyncio.run(ask())
    assert limiter(redis_server).get_request_count(user, "gpt-4") == 1


def test_no_result_is_lost(redis_server: Redis, user: str) -> None:
    """Results that come while the loop takes others must wake it again."""

    async def ask() -> int:
        shared = AsyncRedisRateLimiter(redis_server.url, 100_000, 3600, timeout=PATIENT)

        async def ask_often() -> int:
            return sum([await shared.allow(user, "gpt-4") for _ in range(300)])

        return sum(await asyncio.gather(*(ask_often() for _ in range(16))))

    assert asyncio.run(ask()) == 16 * 300


def test_loops_of_uvloop_work_too(redis_server: Redis, user: str) -> None:
    async def ask() -> int:
        shared = AsyncRedisRateLimiter(redis_server.url, 100, 3600, timeout=PATIENT)
        return sum(await asyncio.gather(*(shared.allow(user, "gpt-4") for _ in range(300))))

    assert uvloop.run(ask()) == 100


def test_a_limiter_serves_one_loop_after_the_other(redis_server: Redis, user: str) -> None:
    shared = AsyncRedisRateLimiter(redis_server.url, 100, 3600, timeout=PATIENT)
    for _ in range(20):
        assert asyncio.run(shared.allow(user, "gpt-4"))


def test_a_limiter_serves_several_loops_at_once(redis_server: Redis, user: str) -> None:
    shared = AsyncRedisRateLimiter(redis_server.url, 40, 3600, timeout=PATIENT)

    async def ask() -> int:
        return sum(await asyncio.gather(*(shared.allow(user, "gpt-4") for _ in range(20))))

    with ThreadPoolExecutor(4) as threads:
        assert sum(threads.map(lambda _: asyncio.run(ask()), range(4))) == 40


def test_a_cancelled_task_disturbs_no_other(redis_server: Redis, user: str) -> None:
    async def ask() -> None:
        shared = AsyncRedisRateLimiter(redis_server.url, 1_000, 3600, timeout=PATIENT)
        for _ in range(20):
            tasks = [asyncio.create_task(shared.check(user, "gpt-4")) for _ in range(10)]
            await asyncio.sleep(0)
            for task in tasks[::2]:
                task.cancel()
            answers = await asyncio.gather(*tasks, return_exceptions=True)
            assert all(isinstance(one, asyncio.CancelledError) for one in answers[::2])
            assert all(not isinstance(one, BaseException) for one in answers[1::2])

    asyncio.run(ask())


def test_the_loop_goes_on_while_redis_hangs(tmp_path: Path) -> None:
    hanging = Redis(tmp_path)

    async def ask() -> int:
        shared = AsyncRedisRateLimiter(hanging.url, timeout=PATIENT)
        await shared.check("alice", "gpt-4")
        hanging.stop_answering()
        task = asyncio.create_task(shared.check("alice", "gpt-4"))
        turns = 0
        for _ in range(1_000):
            await asyncio.sleep(0)
            turns += 1
        assert not task.done()
        task.cancel()
        return turns

    try:
        assert asyncio.run(ask()) == 1_000
    finally:
        hanging.end()


@pytest.mark.parametrize(("mode", "allowed"), [("allow", True), ("deny", False), ("local", True)])
def test_without_redis_the_failure_mode_decides(
    tmp_path: Path, mode: str, *, allowed: bool
) -> None:
    gone = Redis(tmp_path)
    gone.end()
    decision = RedisRateLimiter(gone.url, on_store_error=mode).check("alice", "gpt-4")
    assert (decision.allowed, decision.degraded) == (allowed, True)
    if not allowed:
        assert decision.reason == "store_unavailable"


def test_a_wrong_password_is_an_error_of_each_call(tmp_path: Path) -> None:
    guarded = Redis(tmp_path, password="right")
    try:
        wrong = RedisRateLimiter(guarded.url.replace("//", "//:wrong@"))
        for _ in range(2):
            with pytest.raises(StoreError, match="password") as error:
                wrong.allow("alice", "gpt-4")
            assert "wrong@" not in str(error.value)

        async def ask() -> None:
            await AsyncRedisRateLimiter(guarded.url).allow("alice", "gpt-4")

        with pytest.raises(StoreError, match="password"):
            asyncio.run(ask())
        client = redis.Redis(port=guarded.port, password="right")
        assert RedisRateLimiter(client, timeout=PATIENT).allow("alice", "gpt-4")
        client.close()
    finally:
        guarded.end()


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        (
            {"client": "http://localhost"},
            ValueError,
            "client has no URL of Redis: .*; accepted: redis://HOST",
        ),
        ({"client": 6379}, TypeError, "client is of the type int; accepted: a URL, or a client of"),
        ({"max_requests": -1}, ValueError, "max_requests is -1"),
        ({"max_requests": 1.5}, TypeError, "max_requests is of the type float"),
        ({"window_seconds": 0}, ValueError, "window_seconds is 0"),
        ({"name": ""}, ValueError, "name is empty"),
        ({"algorithm": "x"}, ValueError, 'algorithm is "x"'),
        ({"on_store_error": "x"}, ValueError, 'on_store_error is "x"; accepted: `allow`, `deny`'),
        ({"timeout": 0}, ValueError, "timeout is 0 s; accepted: a number of seconds from 0.01"),
        ({"timeout": "1"}, TypeError, "timeout is of the type str"),
        ({"catalog": "sqlite:x"}, ValueError, "api_key_secret is missing beside catalog"),
        ({"api_key_secret": b""}, ValueError, "api_key_secret has 0 bytes; accepted: at least 16"),
        ({"api_key_secret": b"s" * 16}, ValueError, "catalog is missing beside api_key_secret"),
        ({"api_key_secret": "s"}, TypeError, "api_key_secret is of the type str; accepted: bytes"),
        ({"policies": "a.yaml", "catalog": "sqlite:x"}, ValueError, "policies is given beside"),
    ],
)
def test_arguments_are_checked(
    redis_server: Redis, arguments: dict[str, Any], error: type[Exception], text: str
) -> None:
    for made in (RedisRateLimiter, AsyncRedisRateLimiter):
        with pytest.raises(error, match=text):
            made(**{"client": redis_server.url, **arguments})


def test_a_policy_file_that_is_missing_is_an_error(redis_server: Redis, tmp_path: Path) -> None:
    shared = RedisRateLimiter(redis_server.url, policies=tmp_path / "missing.yaml")
    with pytest.raises(FileNotFoundError, match=r"missing\.yaml"):
        shared.connect()


def test_an_async_call_needs_a_loop(redis_server: Redis) -> None:
    shared = AsyncRedisRateLimiter(redis_server.url)
    with pytest.raises(RuntimeError, match="no running event loop"):
        shared._limiter.check_async("alice", "gpt-4")


@pytest.mark.parametrize(
    ("client", "url"),
    [
        (redis.Redis(), "redis://localhost:6379"),
        (redis.Redis("10.0.0.1", 7000, 3), "redis://10.0.0.1:7000?db=3"),
        (redis.Redis("::1"), "redis://[::1]:6379"),
        (redis.Redis(password="a b:@/"), "redis://:a%20b%3A%40%2F@localhost:6379"),
        (redis.Redis(username="me", password="x"), "redis://me:x@localhost:6379"),
        (redis.Redis(password=b"a@b"), "redis://:a%40b@localhost:6379"),  # type: ignore[arg-type]
        (redis.Redis(ssl=True, ssl_ca_certs="/ca.pem"), "rediss://localhost:6379?ca=%2Fca.pem"),
        (redis.Redis(unix_socket_path="/run/r.sock", db=2), "redis+unix:///run/r.sock?db=2"),
        (redis.from_url("redis://u:p@host:1/2"), "redis://u:p@host:1?db=2"),
        (
            redis.Sentinel([("s1", 26379), ("s2", 26380)]).master_for("main"),  # type: ignore[no-untyped-call]
            "redis-sentinel://s1:26379,s2:26380/main",
        ),
        (
            redis.Sentinel(  # type: ignore[no-untyped-call]
                [("s1", 26379)],
                sentinel_kwargs={"username": "s", "password": "x@"},
                password="p",
            ).master_for("main"),
            "redis-sentinel://:p@s1:26379/main?sentinel_user=s&sentinel_password=x%40",
        ),
        ("redis://as-it-is", "redis://as-it-is"),
    ],
)
def test_the_url_of_a_client(client: object, url: str) -> None:
    assert url_of(client) == url
    RedisRateLimiter(client)


@pytest.mark.parametrize(("tls", "scheme"), [(True, "rediss"), (False, "redis"), (None, "redis")])
def test_the_url_of_a_cluster(tls: bool | None, scheme: str) -> None:
    """The client of a Cluster connects when it is made, so this is only what is read of it."""
    nodes = {name: SimpleNamespace(host=name, port=7000) for name in ("a", "b")}
    settings = {"password": "x"} | ({} if tls is None else {"ssl": tls})
    manager = SimpleNamespace(startup_nodes=nodes, connection_kwargs=settings)
    url = url_of(SimpleNamespace(nodes_manager=manager))
    assert url == f"{scheme}-cluster://:x@a:7000,b:7000"
    RedisRateLimiter(url)


def test_a_client_with_what_no_url_says_is_refused() -> None:
    client = redis.Redis(credential_provider=redis.UsernamePasswordCredentialProvider("a", "b"))
    with pytest.raises(ValueError, match="client has credential_provider"):
        RedisRateLimiter(client)


def test_a_client_at_a_socket_is_shared(redis_server: Redis, user: str) -> None:
    client = redis.Redis(unix_socket_path=str(redis_server.socket))
    assert RedisRateLimiter(client, 1, timeout=PATIENT).allow(user, "gpt-4")
    assert not limiter(redis_server, 1).allow(user, "gpt-4")
    client.close()


def run(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `program` in an interpreter of its own."""
    command = [sys.executable, "-W", "ignore", "-c", textwrap.dedent(program), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_fork_connects_by_itself(redis_server: Redis, user: str) -> None:
    ended = run(
        """
        import asyncio, os, sys
        from tollgate import AsyncRedisRateLimiter, RedisRateLimiter
        url, user = sys.argv[1:]
        shared = RedisRateLimiter(url, 4, 3600, timeout=30)
        awaited = AsyncRedisRateLimiter(url, 4, 3600, timeout=30)
        assert shared.allow(user, "gpt-4")
        assert asyncio.run(awaited.allow(user, "gpt-4"))
        child = os.fork()
        if child == 0:
            assert shared.allow(user, "gpt-4")
            assert asyncio.run(awaited.allow(user, "gpt-4"))
            del shared, awaited
            os._exit(0)
        _, status = os.waitpid(child, 0)
        assert status == 0, status
        assert not shared.allow(user, "gpt-4")
        """,
        redis_server.url,
        user,
    )
    assert (ended.returncode, ended.stderr) == (0, "")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.parametrize("in_child", ["", "shared = None", "other.check('alice')"])
def test_a_fork_drops_what_watches_a_file_in_its_parent(
    redis_server: Redis, tmp_path: Path, in_child: str
) -> None:
    policies = tmp_path / "policies.yaml"
    policies.write_text("policies: [{id: many, per: [user], limit: 1000000, windowSeconds: 60}]")
    ended = run(
        f"""
        import os, sys
        from tollgate import RedisRateLimiter
        url, policies = sys.argv[1:]
        shared = RedisRateLimiter(url, policies=policies, timeout=30)
        shared.check("alice")
        other = RedisRateLimiter(url, policies=policies, timeout=30)
        child = os.fork()
        if child == 0:
            {in_child or "pass"}
            sys.exit(0)
        _, status = os.waitpid(child, 0)
        assert status == 0, status
        """,
        redis_server.url,
        str(policies),
    )
    assert (ended.returncode, ended.stderr) == (0, "")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_lease_is_ended_by_the_process_that_reserved_it(redis_server: Redis, user: str) -> None:
    ended = run(
        """
        import os, sys
        from tollgate import RedisRateLimiter
        url, user = sys.argv[1:]
        shared = RedisRateLimiter(url, 1, 3600, timeout=30)
        with shared.reserve(user, "gpt-4") as lease:
            child = os.fork()
            if child == 0:
                try:
                    lease.release()
                except RuntimeError as error:
                    assert "belongs to the process that reserved it" in str(error), error
                else:
                    os._exit(1)
            else:
                _, status = os.waitpid(child, 0)
                assert status == 0, status
                lease.release()
        if child:
            assert shared.allow(user, "gpt-4")
        """,
        redis_server.url,
        user,
    )
    assert (ended.returncode, ended.stderr) == (0, "")


def test_ctrl_c_ends_the_waiting_for_redis(tmp_path: Path) -> None:
    redis = Redis(tmp_path)
    try:
        ended = run(
            """
            import os, signal, sys, threading, time
            from tollgate import RedisRateLimiter
            url, server = sys.argv[1:]
            shared = RedisRateLimiter(url, 100, 3600, timeout=60)
            assert shared.allow("alice", "gpt-4")
            os.kill(int(server), signal.SIGSTOP)
            threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
            try:
                shared.allow("alice", "gpt-4")
            except KeyboardInterrupt:
                print("interrupted")
            """,
            redis.url,
            str(redis.process.pid),
        )
    finally:
        redis.end()
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "interrupted\n", "")


def test_policies_are_refused_beside_any_part_of_a_limit(tmp_path: Path) -> None:
    for beside in ({"name": "x"}, {"algorithm": "token_bucket"}, {"max_requests": 3}):
        arguments: Any = beside
        with pytest.raises(ValueError, match=r"a limit is given beside policies"):
            RedisRateLimiter("redis://127.0.0.1", policies=tmp_path / "p.yaml", **arguments)


def test_the_interpreter_ends_in_the_middle_of_calls(redis_server: Redis) -> None:
    ended = run(
        """
        import asyncio, sys, threading
        from tollgate import AsyncRedisRateLimiter, RedisRateLimiter
        shared = RedisRateLimiter(sys.argv[1], timeout=30)
        def ask():
            while True:
                shared.allow("alice", "gpt-4")
        for _ in range(4):
            threading.Thread(target=ask, daemon=True).start()
        async def ask_and_leave():
            awaited = AsyncRedisRateLimiter(sys.argv[1], timeout=30)
            for _ in range(100):
                asyncio.ensure_future(awaited.allow("alice", "gpt-4"))
            await awaited.allow("alice", "gpt-4")
        asyncio.run(ask_and_leave())
        """,
        redis_server.url,
    )
    assert (ended.returncode, ended.stderr) == (0, "")


def test_loops_that_end_leave_no_descriptors(redis_server: Redis, user: str) -> None:
    shared = AsyncRedisRateLimiter(redis_server.url, 1_000, 3600, timeout=PATIENT)

    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))

    asyncio.run(shared.allow(user, "gpt-4"))
    before = descriptors()
    for _ in range(50):
        asyncio.run(shared.allow(user, "gpt-4"))
    assert descriptors() <= before + 4


def test_a_thread_that_waits_lets_others_run(tmp_path: Path) -> None:
    hanging = Redis(tmp_path)
    shared = RedisRateLimiter(hanging.url, timeout=PATIENT)
    shared.connect()
    hanging.stop_answering()
    waiting = threading.Thread(target=shared.allow, args=("alice", "gpt-4"))
    waiting.start()
    try:
        assert sum(range(1_000_000)) > 0
        assert waiting.is_alive()
    finally:
        hanging.end()
        waiting.join()


def test_what_a_user_has_used_is_cleared_for_all_processes(
    redis_server: Redis, user: str, tmp_path: Path
) -> None:
    other, path = f"{user} other", tmp_path / "policies.yaml"
    path.write_text(
        f"""policies:
        - {{id: "of {user} and model", per: [user, model], limit: 2, windowSeconds: 3600}}
        - {{id: "of {user}", per: [user], limit: 9, windowSeconds: 3600}}
        - {{id: "all of {user}", per: [model], limit: 100, windowSeconds: 3600}}
        """
    )
    first, second = (
        RedisRateLimiter(redis_server.url, policies=path, timeout=PATIENT) for _ in range(2)
    )

    def used(name: str, model: str) -> list[int]:
        return [limit.count for limit in second.peek(name, model, cost=0).limits]

    for name in (user, other):
        for model in ("a", "b"):
            assert [first.allow(name, model) for _ in range(3)] == [True, True, False]
    order = [limit.policy_id for limit in second.peek(user, "a").limits]
    before = dict(zip(order, used(other, "a"), strict=True))
    assert sorted(before.values()) == [2, 4, 4]
    assert first.reset_user(user, ["a"]) == [f"of {user}", f"of {user} and model"]
    assert used(other, "a") == list(before.values())
    after = dict(zip(order, used(user, "a"), strict=True))
    assert after == {f"of {user} and model": 0, f"of {user}": 0, f"all of {user}": 4}
    assert dict(zip(order, used(user, "b"), strict=True))[f"of {user} and model"] == 2
    assert [second.allow(user, "a") for _ in range(3)] == [True, True, False]

    async def clear() -> list[str]:
        shared = AsyncRedisRateLimiter(redis_server.url, policies=path, timeout=PATIENT)
        with pytest.raises(TypeError, match=r"models is of the type str"):
            await shared.reset_user(user, "a")
        return await shared.reset_user(user, iter(["a", "b"]))

    assert asyncio.run(clear()) == [f"of {user}", f"of {user} and model"]
    assert [second.allow(user, model) for model in ("a", "b")] == [True, True]


def test_a_limit_without_policies_is_cleared_for_the_models_that_are_named(
    redis_server: Redis, user: str
) -> None:
    shared = limiter(redis_server, 1)
    for model in ("a", "b"):
        assert shared.allow(user, model)
    assert shared.reset_user(user, ["a"]) == ["default"]
    assert [shared.allow(user, model) for model in ("a", "b")] == [True, False]
    assert shared.reset_user(user, []) == []
