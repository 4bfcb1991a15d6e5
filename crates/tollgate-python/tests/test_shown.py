"""What `repr` and `help` show of the package."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import httpx
import pytest
import tollgate
from tollgate import (
    AsyncMultiTierRateLimiter,
    AsyncPolicyLimiter,
    AsyncRateLimiter,
    AsyncRedisRateLimiter,
    MultiTierRateLimiter,
    PolicyLimiter,
    RateLimiter,
    RedisRateLimiter,
    Tier,
)
from tollgate.client import AsyncClient, Client

SECRET = "a-long-password-of-nobody"


def test_a_repr_names_the_limits() -> None:
    limiter = RateLimiter(5, 0.5, unit="tokens", name="p")
    assert repr(limiter) == '<RateLimiter "p": 5 tokens in 0.5 s>'
    assert repr(AsyncRateLimiter(limiter)) == f"<AsyncRateLimiter of {limiter!r}>"
    tiers = MultiTierRateLimiter(tiers={"premium": Tier((1, 60), (2, 60))})
    shown = "100 in 3600 s per user and model, 10000 in 3600 s per model, 1 tiers"
    assert repr(tiers) == f"<MultiTierRateLimiter: {shown}>"
    assert repr(AsyncMultiTierRateLimiter(tiers)) == f"<AsyncMultiTierRateLimiter of {tiers!r}>"


def test_a_repr_names_the_policies_and_a_lease_its_limit(tmp_path: Path) -> None:
    path = tmp_path / "policies.yaml"
    path.write_text("policies: [{id: p, per: [user], unit: tokens, limit: 9, windowSeconds: 60}]")
    limiter = PolicyLimiter.from_file(path)
    assert repr(AsyncPolicyLimiter(limiter)) == f"<AsyncPolicyLimiter of {limiter!r}>"
    lease = limiter.reserve("alice", cost={"tokens": 4})
    assert repr(lease) == '<Lease open, in 1 limits: 4 of 9 tokens by "p">'
    assert lease.id not in repr(lease)
    lease.release()
    assert repr(lease).startswith("<Lease ended, ")


@pytest.mark.parametrize("kind", [RedisRateLimiter, AsyncRedisRateLimiter])
def test_a_repr_names_the_redis_without_its_password(kind: type[Any], tmp_path: Path) -> None:
    url, name = f"redis://:{SECRET}@127.0.0.1:7", kind.__name__
    place = "redis://127.0.0.1:7"
    assert repr(kind(url, 5, 60)) == f'<{name} "default": 5 requests in 60 s, in {place}>'
    path = tmp_path / "policies.yaml"
    of_file = repr(kind(url, policies=path))
    assert of_file == f"<{name} with the policies of {path}, in {place}>"
    catalog = f"postgres://tollgate:{SECRET}@127.0.0.1/tollgate"
    of_database = repr(kind(url, catalog=catalog, api_key_secret=SECRET.encode()))
    assert of_database == f"<{name} with the policies of a database, in {place}>"


def test_a_repr_of_a_client_names_the_server_without_a_password() -> None:
    url = f"https://user:{SECRET}@h:8443/tollgate"
    for client in (
        Client(url, admin_token=SECRET),
        Client(http=httpx.Client(base_url=url)),
        AsyncClient(url, admin_token=SECRET),
        AsyncClient(http=httpx.AsyncClient(base_url=url)),
    ):
        assert repr(client) == f"<{type(client).__name__} of https://h:8443>"
    assert repr(Client(http=httpx.Client())) == "<Client of no address>"


CLASSES = [
    one
    for one in (getattr(tollgate, name) for name in tollgate.__all__)
    if inspect.isclass(one) and not issubclass(one, dict | Exception)
]


@pytest.mark.parametrize("public", CLASSES)
def test_each_class_and_method_says_what_it_does(public: type[Any]) -> None:
    assert public.__doc__
    shown = [str(inspect.signature(public))]
    for name in dir(public):
        member = getattr(public, name)
        if name.startswith("_"):
            continue
        assert inspect.getdoc(member), f"{public.__name__}.{name}"
        if callable(member):
            shown.append(str(inspect.signature(member)))
    assert "object at 0x" not in " ".join(shown)


def test_the_defaults_of_a_shared_limiter_are_shown_as_they_are() -> None:
    parameters = inspect.signature(RedisRateLimiter).parameters
    shown = [repr(parameters[name].default) for name in ("max_requests", "window_seconds")]
    assert shown == ["100", "3600"]
