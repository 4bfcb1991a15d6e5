"""The clients of a server, against a real one."""

from __future__ import annotations

import asyncio
import gc
import pickle
import re
import runpy
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from servers import tollgate_server
from tollgate.client import (
    AsyncClient,
    Client,
    OnFailure,
    RequestRefused,
    ReservationDenied,
    ServerUnavailable,
)

EXAMPLE = Path(__file__).parents[3] / "examples" / "python" / "sidecar.py"
TOKEN = "the-token-of-the-tests"
POLICIES = """
policies:
  - {id: requests, scope: USER_MODEL, limit: 3, windowSeconds: 3600}
  - {id: tokens, scope: USER, unit: tokens, limit: 1000, windowSeconds: 3600}
  - {id: output, scope: USER, unit: output_tokens, limit: 1000, windowSeconds: 3600}
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("server")
    (folder / "policies.yaml").write_text(POLICIES)
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("TOLLGATE_ADMIN_TOKEN", TOKEN)
        with tollgate_server(folder, "--catalog", "file:policies.yaml") as address:
            yield address


@pytest.fixture
def client(server: str) -> Iterator[Client]:
    with Client(server, timeout=60, admin_token=TOKEN) as client:
        yield client


@pytest.fixture
def nobody() -> str:
    """Return an address at which nobody listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}"


def test_checks_are_decided_by_the_server(client: Client, user: str) -> None:
    first = client.check(user, "gpt-4", cost={"requests": 2, "tokens": 10})
    assert first
    assert (first.policy_id, first.limit, first.count, first.remaining) == ("requests", 3, 2, 1)
    assert [limit["policyId"] for limit in first.limits] == ["requests", "tokens", "output"]
    assert client.peek(user, "gpt-4", 0).count == 2
    assert client.check(user, "gpt-4", 1)
    denied = client.check(user, "gpt-4")
    assert not denied
    assert (denied.reason, denied.degraded) == ("limit_exceeded", False)
    assert denied.retry_after_ms is not None
    assert 0 < denied.retry_after_ms <= 3_600_000


def test_a_check_with_the_same_request_id_is_charged_once(client: Client, user: str) -> None:
    counts = [client.check(user, "gpt-4", request_id="r1").count for _ in range(3)]
    assert counts == [1, 1, 1]


def test_a_batch_is_decided_in_its_order(client: Client, user: str) -> None:
    checks = client.check_batch([{"user": user, "model": "gpt-4", "cost": 2}] * 2)
    assert [(one.allowed, one.count) for one in checks] == [(True, 2), (False, 2)]


def test_a_lease_is_settled_with_what_was_observed(client: Client, user: str) -> None:
    with client.reserve(user, "gpt-4", ttl=60, cost={"requests": 1, "tokens": 900}) as lease:
        assert lease.state_at_reservation == "live"
        assert lease.reserved == {"requests": 1, "tokens": 900}
        lease.observe({"requests": 1, "tokens": 100})
        assert lease.extend(ttl=60)["proceed"]
    assert client.peek(user, cost={"tokens": 0}).count == 100


def test_a_lease_of_a_block_that_failed_gives_nothing_back(client: Client, user: str) -> None:
    with pytest.raises(RuntimeError), client.reserve(user, "m", cost={"tokens": 900}) as lease:
        lease.observe({"tokens": 100})
        raise RuntimeError
    assert client.peek(user, cost={"tokens": 0}).count == 900


def test_what_ended_a_lease_is_not_done_twice(client: Client, user: str) -> None:
    with client.reserve(user, "m", cost={"tokens": 900}) as lease:
        assert lease.settle({"tokens": 5})["state"] == "settled"
    with client.reserve(user, "m", cost={"tokens": 900}) as lease:
        assert lease.release()["state"] == "released"
    assert client.peek(user, cost={"tokens": 0}).count == 5


def test_a_denied_reservation_raises(client: Client, user: str) -> None:
    with pytest.raises(
        ReservationDenied, match="cost_exceeds_limit by the policy tokens"
    ) as denied:
        client.reserve(user, "gpt-4", cost={"tokens": 1001})
    assert denied.value.decision.retry_after_ms is None


def test_an_administrator_reads_and_resets(client: Client, user: str) -> None:
    assert [one["id"] for one in client.admin("GET", "policies", limit=1)["items"]] == ["output"]
    client.check(user, "gpt-4", cost=3)
    client.admin("POST", "usage/reset", {"userId": user, "modelId": "gpt-4"})
    assert client.peek(user, "gpt-4", cost=0).count == 0


def test_calls_to_admin_need_a_token(server: str) -> None:
    with Client(server) as client, pytest.raises(ValueError, match="give the client admin_token"):
        client.admin("GET", "policies")
    wrong = Client(server, timeout=60, admin_token="a-token-of-nobody")
    with wrong, pytest.raises(RequestRefused, match="admin token") as refused:
        wrong.admin("GET", "policies")
    assert refused.value.status == 401


@pytest.mark.parametrize("on_failure", ["raise", "allow", "deny"])
def test_a_request_that_is_refused_always_raises(on_failure: OnFailure) -> None:
    # Such as by a newer server: this client sends nothing that the servers of its version refuse.
    problem = {"detail": "colour is missing", "errors": [{"path": "colour"}]}
    transport = httpx.MockTransport(lambda _: httpx.Response(422, json=problem))
    http = httpx.Client(transport=transport, base_url="http://h")
    client = Client(http=http, on_failure=on_failure)
    with client, pytest.raises(RequestRefused, match="colour is missing") as refused:
        client.check("alice", "gpt-4")
    copied = pickle.loads(pickle.dumps(refused.value))
    for one in (refused.value, copied):
        assert (one.status, one.problem, str(one)) == (422, problem, str(refused.value))


def test_without_the_server_on_failure_decides(nobody: str) -> None:
    with Client(nobody, on_failure="allow") as client:
        decision = client.check("alice", "gpt-4")
        assert (decision.allowed, decision.degraded, decision.reason) == (True, True, None)
        assert all(client.check_batch([{"user": "alice"}, {"user": "bob"}]))
        with pytest.raises(ServerUnavailable, match="did not answer"):
            client.reserve("alice", "gpt-4")
    with Client(nobody, on_failure="deny") as client:
        decision = client.check("alice", "gpt-4")
        assert (decision.allowed, decision.reason) == (False, "server_unavailable")
    with Client(nobody) as client, pytest.raises(ServerUnavailable, match="did not answer"):
        client.check("alice", "gpt-4")


class Other(BaseHTTPRequestHandler):
    """A server that is no Tollgate: it answers with the status in the path of its address."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(int(self.path.split("/")[1]))
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
        pass


@pytest.fixture
def other() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Other) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("status", "said"),
    [(200, "not that of a Tollgate"), (302, "answered 302"), (503, "answered 503")],
)
def test_another_answer_is_no_decision(other: str, status: int, said: str) -> None:
    address = f"{other}/{status}"
    with Client(address, timeout=60) as client, pytest.raises(ServerUnavailable, match=said):
        client.check("alice", "gpt-4")
    with Client(address, timeout=60, on_failure="allow") as client:
        assert client.check("alice", "gpt-4").degraded


def test_bad_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="accepted: http://HOST"):
        Client("127.0.0.1:8000")
    with pytest.raises(ValueError, match="accepted: 'raise', 'allow' or 'deny'"):
        Client("http://127.0.0.1:8000", on_failure="open")  # type: ignore[arg-type]
    client = Client("http://127.0.0.1:8000")
    with client, pytest.raises(TypeError, match=r'check\(\) has no argument "users"'):
        client.check("alice", users=3)  # type: ignore[call-arg]


def test_the_example_settles_what_it_used(
    client: Client, server: str, capsys: pytest.CaptureFixture[str]
) -> None:
    runpy.run_path(str(EXAMPLE))["main"](server)
    assert capsys.readouterr().out == "three two one\nfive four\n"
    assert client.peek("alice", cost={"output_tokens": 0}).count == 5


def test_a_client_of_httpx_can_be_given(server: str, user: str) -> None:
    with Client(http=httpx.Client(base_url=server, timeout=60)) as client:
        assert client.check(user, "gpt-4")


def test_the_async_client_does_the_same(server: str, nobody: str, user: str) -> None:
    async def work() -> None:
        async with AsyncClient(server, timeout=60, admin_token=TOKEN) as client:
            decisions = await asyncio.gather(*(client.check(user, "gpt-4") for _ in range(20)))
            assert sum(map(bool, decisions)) == 3
            assert [one.allowed for one in await client.check_batch([{"user": user}])] == [True]
            assert (await client.peek(user, "gpt-4")).count == 3
            await client.admin("POST", "usage/reset", {"userId": user, "modelId": "gpt-4"})
            async with await client.reserve(user, "gpt-4", cost={"tokens": 900}) as lease:
                lease.observe({"tokens": 10})
                assert (await lease.extend(wanted={"tokens": 990}))["proceed"]
            assert (await client.peek(user, cost={"tokens": 0})).count == 10
            async with await client.reserve(user, "gpt-4", cost={"tokens": 900}) as lease:
                await lease.release()
            lease = await client.reserve(user, "gpt-4", cost={"tokens": 900})
            assert (await lease.settle({"tokens": 1}))["state"] == "settled"
            with pytest.raises(ReservationDenied):
                await client.reserve(user, "gpt-4", cost={"tokens": 990})
        async with AsyncClient(nobody, on_failure="allow") as client:
            assert (await client.check(user, "gpt-4")).degraded
            assert [one.degraded for one in await client.check_batch([{"user": user}])] == [True]
        async with AsyncClient(nobody) as client:
            with pytest.raises(ServerUnavailable):
                await client.check(user, "gpt-4")

    asyncio.run(work())


class Pausing(httpx.AsyncHTTPTransport):
    """Holds the answers to the paths that end with `path` until `go` is set."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path
        self.sent = asyncio.Event()
        self.go = asyncio.Event()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        is_held = request.url.path.endswith(self.path)
        if is_held and self.path == "/settle":
            self.sent.set()
            await self.go.wait()
        response = await super().handle_async_request(request)
        if is_held:
            self.sent.set()
            await self.go.wait()
        return response


def pausing_client(server: str, transport: Pausing) -> AsyncClient:
    http = httpx.AsyncClient(base_url=server, timeout=60, transport=transport)
    return AsyncClient(http=http, timeout=60)


def test_a_cancelled_reservation_is_given_back(server: str, client: Client, user: str) -> None:
    async def work() -> None:
        transport = Pausing("/leases")
        async with pausing_client(server, transport) as pausing:

            async def hold() -> None:
                async with pausing.reserve(user, "gpt-4", cost={"tokens": 900}):
                    pytest.fail("the reservation was cancelled")

            task = asyncio.create_task(hold())
            await transport.sent.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            transport.go.set()

    asyncio.run(work())
    assert client.peek(user, cost={"tokens": 0}).count == 0


def test_a_settlement_goes_on_when_it_is_cancelled(server: str, client: Client, user: str) -> None:
    async def work() -> None:
        transport = Pausing("/settle")
        async with pausing_client(server, transport) as pausing:
            entered = asyncio.Event()

            async def hold() -> None:
                async with pausing.reserve(user, "gpt-4", cost={"tokens": 900}) as lease:
                    lease.observe({"tokens": 950})
                    entered.set()
                    await asyncio.Event().wait()

            task = asyncio.create_task(hold())
            await entered.wait()
            task.cancel()
            await transport.sent.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            transport.go.set()

    asyncio.run(work())
    assert client.peek(user, cost={"tokens": 0}).count == 950


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_an_async_client_serves_several_event_loops(server: str, user: str) -> None:
    client = AsyncClient(server, timeout=60)

    async def work(client: AsyncClient) -> int:
        return (await client.check(user, "gpt-4")).count

    assert [asyncio.run(work(client)) for _ in range(3)] == [1, 2, 3]
    # Connections of loops that have ended are dropped here, not in another test.
    del client
    gc.collect()


BAD_CONNECTIONS = [
    ({"base_url": None}, TypeError, "base_url is of the type NoneType"),
    ({"base_url": b"http://h"}, TypeError, "base_url is of the type bytes"),
    ({"base_url": ""}, ValueError, "accepted: http://HOST"),
    ({"base_url": "localhost:8000"}, ValueError, "accepted: http://HOST"),
    ({"base_url": "ftp://h"}, ValueError, "accepted: http://HOST"),
    ({"base_url": "http://"}, ValueError, "accepted: http://HOST"),
    ({"base_url": "http://h:port"}, ValueError, "accepted: http://HOST"),
    ({"base_url": "http://h?a=b"}, ValueError, "accepted: http://HOST"),
    ({"timeout": None}, TypeError, "timeout is of the type NoneType"),
    ({"timeout": "1"}, TypeError, "timeout is of the type str"),
    ({"timeout": True}, TypeError, "timeout is of the type bool"),
    ({"timeout": 0}, ValueError, "timeout is 0; accepted: seconds above 0"),
    ({"timeout": -1}, ValueError, "timeout is -1"),
    ({"timeout": float("nan")}, ValueError, "timeout is nan"),
    ({"timeout": float("inf")}, ValueError, "timeout is inf"),
    ({"timeout": 86_401}, ValueError, "timeout is 86401; accepted: seconds above 0, at most 86400"),
    ({"timeout": 10**400}, ValueError, f"timeout is 1{'0' * 59}…; accepted: seconds above 0"),
    ({"timeout": 10**5000}, ValueError, "timeout is too large; accepted: seconds above 0"),
    ({"base_url": "http://h:65536"}, ValueError, "accepted: http://HOST"),
    ({"base_url": "http://\ud800"}, ValueError, "accepted: http://HOST"),
    ({"base_url": "a" * 10**6}, ValueError, f"base_url is '{'a' * 59}…; accepted: http://HOST"),
    ({"on_failure": "a" * 10**6}, ValueError, f"on_failure is '{'a' * 59}…; accepted: 'raise'"),
    ({"on_failure": "fail"}, ValueError, "on_failure is 'fail'"),
    ({"on_failure": None}, ValueError, "on_failure is None"),
    ({"admin_token": b"t"}, TypeError, "admin_token is of the type bytes"),
    ({"admin_token": ""}, ValueError, "admin_token cannot be sent"),
    ({"admin_token": "a\nb"}, ValueError, "admin_token cannot be sent"),
    ({"http": "http://h"}, TypeError, "http is of the type str; accepted: httpx."),
]


@pytest.mark.parametrize("kind", [Client, AsyncClient])
@pytest.mark.parametrize(("arguments", "error", "problem"), BAD_CONNECTIONS)
def test_what_leads_to_no_server_is_refused_at_once(
    kind: type, arguments: dict[str, object], error: type[Exception], problem: str
) -> None:
    with pytest.raises(error, match=re.escape(problem)):
        kind(**{"base_url": "http://h", **arguments})


def test_a_client_of_the_other_kind_is_refused() -> None:
    with pytest.raises(TypeError, match=r"accepted: httpx\.Client"):
        Client(http=httpx.AsyncClient())  # type: ignore[arg-type]
    with httpx.Client() as http, pytest.raises(TypeError, match=r"accepted: httpx\.AsyncClient"):
        AsyncClient(http=http)  # type: ignore[arg-type]


BAD_CALLS: list[tuple[str, tuple[object, ...], dict[str, object], type[Exception], str]] = [
    ("check", (3,), {}, TypeError, "user"),
    ("check", ("u", "\ud800"), {}, ValueError, "model"),
    ("check", ("u",), {"cost": 1.5}, TypeError, "cost"),
    ("check", ("u",), {"cost": -1}, ValueError, "cost"),
    ("check", ("u",), {"cost": {"Cats!": 1}}, ValueError, "cost"),
    ("peek", ("u",), {"attributes": ["a"]}, TypeError, "attributes"),
    ("peek", ("u",), {"colour": "red"}, TypeError, "colour"),
    ("reserve", ("u",), {"ttl": "1"}, TypeError, "ttl"),
    ("reserve", ("u",), {"ttl": 0}, ValueError, "ttl"),
    ("reserve", ("u",), {"ttl": float("nan")}, ValueError, "ttl"),
    ("reserve", (b"u",), {}, TypeError, "user"),
    ("check_batch", (3,), {}, TypeError, "checks is of the type int"),
    ("check_batch", ("u",), {}, TypeError, "checks is of the type str"),
    ("check_batch", ({"user": "u"},), {}, TypeError, "checks is of the type dict"),
    ("check_batch", ([],), {}, ValueError, "checks has 0 checks; accepted: 1 to 1,000"),
    ("check_batch", ([{}] * 1001,), {}, ValueError, "checks has 1001 checks"),
    ("check_batch", ([{"user": "u"}, 3],), {}, TypeError, "checks[1] is of the type int"),
    ("check_batch", ([{"user": 3}],), {}, TypeError, "checks[0]: user"),
    ("admin", (3, "policies"), {}, TypeError, "method is of the type int"),
    ("admin", ("FETCH", "policies"), {}, ValueError, "method is 'FETCH'"),
    ("admin", ("GET", None), {}, TypeError, "path is of the type NoneType"),
]


@pytest.mark.parametrize(("name", "arguments", "others", "error", "problem"), BAD_CALLS)
def test_what_no_server_accepts_is_refused_before_it_is_sent(
    name: str,
    arguments: tuple[object, ...],
    others: dict[str, object],
    error: type[Exception],
    problem: str,
) -> None:
    def refuse(_: httpx.Request) -> httpx.Response:
        raise AssertionError("it was sent")

    with httpx.Client(transport=httpx.MockTransport(refuse), base_url="http://h") as http:
        client = Client(http=http, admin_token=TOKEN)
        with pytest.raises(error, match=re.escape(problem)):
            getattr(client, name)(*arguments, **others)

    async def run() -> None:
        transport = httpx.MockTransport(refuse)
        async with httpx.AsyncClient(transport=transport, base_url="http://h") as http:
            client = AsyncClient(http=http, admin_token=TOKEN)
            await getattr(client, name)(*arguments, **others)

    with pytest.raises(error, match=re.escape(problem)):
        asyncio.run(run())


def test_what_is_no_usage_is_refused_before_it_is_sent(client: Client, user: str) -> None:
    lease = client.reserve(user, "gpt-4")
    for update, usage, error in [
        (lease.observe, {"tokens": -1}, ValueError),
        (lease.observe, [1], TypeError),
        (lease.settle, {"Cats!": 1}, ValueError),
        (lease.settle, {"tokens": 1.5}, TypeError),
        (lambda usage: lease.extend(wanted=usage), 3, TypeError),
        (lease.extend, -1, ValueError),
    ]:
        with pytest.raises(error):
            update(usage)  # type: ignore[operator]
    # Nothing of that ended it.
    assert lease.settle({"requests": 1})["state"] == "settled"


ALLOWED = {
    "allowed": True,
    "limit": 3,
    "count": 1,
    "remaining": 2,
    "windowSeconds": 60,
    "retryAfterMs": 0,
    "resetAfterMs": 60_000,
    "policyId": "requests",
    "scope": "USER",
    "unit": "requests",
    "reason": None,
    "degraded": False,
    "limits": [],
}


@pytest.mark.parametrize("end", ["settle", "release"])
def test_the_end_of_a_lease_reaches_the_server_although_its_task_is_cancelled(end: str) -> None:
    lease = {"id": "l1", "state": "live", "reserved": {"requests": 1}}
    arrived: list[str] = []

    async def run() -> None:
        is_asked, may_answer = asyncio.Event(), asyncio.Event()

        async def answer(request: httpx.Request) -> httpx.Response:
            if request.url.path == "/rate-limit/leases":
                return httpx.Response(201, json={**ALLOWED, "lease": lease})
            is_asked.set()
            await may_answer.wait()
            arrived.append(request.method)
            return httpx.Response(200, json={"state": "settled"})

        transport = httpx.MockTransport(answer)
        http = httpx.AsyncClient(transport=transport, base_url="http://h")
        async with AsyncClient(http=http, timeout=60) as client:
            held = await client.reserve("u", "m")
            call = held.settle({"requests": 1}) if end == "settle" else held.release()
            task = asyncio.create_task(call)
            await is_asked.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            may_answer.set()

    asyncio.run(run())
    assert len(arrived) == 1


ITSELF: list[object] = []
ITSELF.append(ITSELF)


@pytest.mark.parametrize(
    ("arguments", "parameters", "error", "problem"),
    [
        (("TRACE", "policies"), {}, ValueError, "method is 'TRACE'; accepted: GET, POST"),
        (("GET", 3), {}, TypeError, "path is of the type int; accepted: str"),
        (("GET", "a\nb"), {}, ValueError, "path cannot be sent; accepted: at most 4096 printable"),
        (("GET", "\ud800"), {}, ValueError, "path cannot be sent; accepted: at most 4096 printab"),
        (("GET", "a" * 10**6), {}, ValueError, "path cannot be sent; accepted: at most 4096 prin"),
        (("POST", "policies", object()), {}, TypeError, "body cannot be written as JSON: Object"),
        (("POST", "policies", [float("nan")]), {}, ValueError, "body cannot be written as JSON: "),
        (("POST", "policies", ITSELF), {}, ValueError, "body cannot be written as JSON: Circular"),
        (("GET", "users"), {"limit": 1.5}, TypeError, "'limit' is of the type float; accepted: s"),
        (("GET", "users"), {"after": "\ud800"}, ValueError, "'after' cannot be sent; accepted: at"),
    ],
)
def test_a_wrong_call_of_the_admin_interface_is_refused_before_it_is_sent(
    arguments: Any, parameters: Any, error: type[Exception], problem: str, nobody: str
) -> None:
    client, awaited = Client(nobody, admin_token=TOKEN), AsyncClient(nobody, admin_token=TOKEN)
    with pytest.raises(error, match=re.escape(problem)):
        client.admin(*arguments, **parameters)
    with pytest.raises(error, match=re.escape(problem)):
        asyncio.run(awaited.admin(*arguments, **parameters))


def test_a_check_of_a_batch_has_names_that_are_text(client: Client) -> None:
    wrong: Any = {1: "alice"}
    with pytest.raises(TypeError, match=r"checks\[1\]: the name of an argument is of the type int"):
        client.check_batch([{"user": "alice"}, wrong])


LEASE = {"id": "l1", "state": "live", "reserved": {"requests": 1}}


def without_settlements(request: httpx.Request) -> httpx.Response:
    """Reserve, and fail to settle."""
    if request.url.path == "/rate-limit/leases":
        return httpx.Response(201, json={**ALLOWED, "lease": LEASE})
    return httpx.Response(503)


def test_a_failed_settlement_does_not_replace_the_exception_of_the_block(
    caplog: pytest.LogCaptureFixture,
) -> None:
    transport = httpx.MockTransport(without_settlements)
    http = httpx.Client(transport=transport, base_url="http://h")
    with Client(http=http) as client:
        with pytest.raises(KeyError), client.reserve("u"):
            raise KeyError
        assert "was not settled when its block raised: the server answered 503" in caplog.text
        with pytest.raises(ServerUnavailable, match="answered 503"), client.reserve("u") as lease:
            pass
        assert "open" in repr(lease)
        caplog.clear()

    async def run() -> None:
        awaited = httpx.AsyncClient(transport=transport, base_url="http://h")
        async with AsyncClient(http=awaited) as client:
            with pytest.raises(KeyError):
                async with client.reserve("u"):
                    raise KeyError
            assert "was not settled when its block raised" in caplog.text
            with pytest.raises(ServerUnavailable, match="answered 503"):
                async with client.reserve("u"):
                    pass

    asyncio.run(run())


def test_an_ended_lease_of_a_server_cannot_be_entered(client: Client, user: str) -> None:
    lease = client.reserve(user)
    with lease:
        pass
    with pytest.raises(RuntimeError, match="has been settled or released already"), lease:
        pytest.fail("it was entered")


def client_of(response: httpx.Response, **options: Any) -> Client:
    """Return a client that gets this answer, whatever it asks."""
    transport = httpx.MockTransport(lambda _: response)
    return Client(http=httpx.Client(transport=transport, base_url="http://h"), **options)


@pytest.mark.parametrize(
    ("problem", "said"),
    [
        ({"detail": [{"loc": ["body"], "msg": "x"}]}, "status 422"),
        ({"detail": 5}, "status 422"),
        ({"detail": "wrong", "errors": {"userId": ["bad"]}}, "wrong"),
        ({"errors": ["bad", 5]}, "status 422"),
        ({"errors": 5}, "status 422"),
    ],
)
def test_a_refusal_of_another_program_is_a_refusal(problem: dict[str, Any], said: str) -> None:
    with client_of(httpx.Response(422, json=problem), on_failure="allow") as client:
        with pytest.raises(RequestRefused) as refused:
            client.check("u")
        assert (str(refused.value), refused.value.problem) == (said, problem)


def broken_gzip(_: httpx.Request) -> httpx.Response:
    stream = httpx.ByteStream(b"this is no gzip")
    return httpx.Response(200, headers={"content-encoding": "gzip"}, stream=stream)


def test_an_answer_that_cannot_be_read_is_none() -> None:
    transport = httpx.MockTransport(broken_gzip)
    client = Client(http=httpx.Client(transport=transport, base_url="http://h"))
    with client, pytest.raises(ServerUnavailable, match="did not answer: "):
        client.check("u")
    deep = httpx.Response(200, content=b"[" * 100_000)
    with client_of(deep, on_failure="allow") as client:
        assert client.check("u").degraded


@pytest.mark.parametrize(
    "changed",
    [
        {"allowed": "false"},
        {"allowed": None},
        {"allowed": 1},
        {"count": "x"},
        {"count": True},
        {"limit": 1.5},
        {"reason": 5},
        {"limits": None},
    ],
)
def test_an_answer_with_other_types_is_no_decision(changed: dict[str, object]) -> None:
    other = {**ALLOWED, **changed}
    client = client_of(httpx.Response(200, json=other))
    with client, pytest.raises(ServerUnavailable, match="not that of a Tollgate"):
        client.check("u")
    with client_of(httpx.Response(200, json={"decisions": [other]}), on_failure="deny") as client:
        assert [one.reason for one in client.check_batch([{"user": "u"}])] == ["server_unavailable"]


@pytest.mark.parametrize("count", [0, 1, 4])
def test_a_batch_has_an_answer_for_each_check(count: int) -> None:
    answer = httpx.Response(200, json={"decisions": [ALLOWED] * count})
    client = client_of(answer)
    with client, pytest.raises(ServerUnavailable, match="not that of a Tollgate"):
        client.check_batch([{"user": "u"}] * 3)
    with client_of(answer, on_failure="deny") as client:
        assert [one.allowed for one in client.check_batch([{"user": "u"}] * 3)] == [False] * 3


@pytest.mark.parametrize("lease", [5, {}, {**LEASE, "id": 5}, {**LEASE, "reserved": None}])
def test_a_reservation_without_a_lease_is_no_answer(lease: object) -> None:
    client = client_of(httpx.Response(201, json={**ALLOWED, "lease": lease}))
    with client, pytest.raises(ServerUnavailable, match="not that of a Tollgate"):
        client.reserve("u")


def test_an_error_without_a_text_is_named() -> None:
    def fail(_: httpx.Request) -> httpx.Response:
        raise httpx.ReadTimeout("")

    async def run() -> None:
        transport = httpx.MockTransport(fail)
        async with httpx.AsyncClient(transport=transport, base_url="http://h") as http:
            await AsyncClient(http=http).check("u")

    with pytest.raises(ServerUnavailable, match="did not answer: ReadTimeout"):
        asyncio.run(run())
