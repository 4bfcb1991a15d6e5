"""The policies of a file."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from tollgate import AsyncPolicyLimiter, ManualClock, PolicyLimiter

POLICIES = """
policies:
  - {id: requests, per: [user, model], limit: 3, windowSeconds: 60}
  - {id: tokens, per: [user], unit: output_tokens, limit: 1000, windowSeconds: 60}
  - {id: addresses, per: [ip], limit: 2, windowSeconds: 60}
  - {id: region, per: [region], limit: 1, windowSeconds: 60}
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "policies.yaml"
    path.write_text(POLICIES)
    return path


@pytest.fixture
def limiter(path: Path, clock: ManualClock) -> PolicyLimiter:
    return PolicyLimiter.from_file(path, clock=clock)


def test_all_limits_of_a_check_are_decided(limiter: PolicyLimiter) -> None:
    decision = limiter.check("alice", "gpt-4", cost={"output_tokens": 600})
    assert decision.allowed
    assert [limit.policy_id for limit in decision.limits] == ["requests", "tokens"]
    denied = limiter.check("alice", "gpt-4", cost={"output_tokens": 600})
    assert (denied.allowed, denied.policy_id, denied.unit) == (False, "tokens", "output_tokens")
    assert denied.limits[0].count == 1


def test_windows_slide(limiter: PolicyLimiter, clock: ManualClock) -> None:
    assert [limiter.allow("alice", "gpt-4") for _ in range(4)] == [True, True, True, False]
    clock.advance(60)
    assert limiter.allow("alice", "gpt-4")


def test_a_check_can_have_an_address_and_no_user(limiter: PolicyLimiter) -> None:
    assert [limiter.allow(ip="203.0.113.7") for _ in range(3)] == [True, True, False]
    assert limiter.allow(ip="203.0.113.8")


def test_spellings_of_an_address_are_one_address(limiter: PolicyLimiter) -> None:
    assert limiter.allow(ip="::ffff:203.0.113.7")
    assert limiter.allow(ip="203.0.113.7")
    assert not limiter.allow(ip="203.0.113.7")


def test_a_check_can_have_attributes(limiter: PolicyLimiter) -> None:
    assert limiter.allow("alice", "gpt-4", attributes={"region": "eu"})
    assert not limiter.allow("bob", "gpt-4", attributes={"region": "eu"})
    assert limiter.allow("bob", "gpt-4", attributes={"region": "us"})


def test_a_request_id_is_charged_once(limiter: PolicyLimiter) -> None:
    first = limiter.check("alice", "gpt-4", request_id="r1")
    again = limiter.check("alice", "gpt-4", request_id="r1")
    assert (first.count, again.count) == (1, 1)
    assert limiter.check("alice", "gpt-4", request_id="r2").count == 2


def test_a_peek_charges_nothing(limiter: PolicyLimiter) -> None:
    assert limiter.peek("alice", "gpt-4").count == 0
    assert limiter.peek("alice", "gpt-4", cost=4).reason == "cost_exceeds_limit"
    assert limiter.get_metrics()["total"] == 0


def test_a_reset_clears_the_limits_of_a_check(limiter: PolicyLimiter) -> None:
    for _ in range(3):
        assert limiter.allow("alice", "gpt-4")
    assert limiter.reset("alice", "gpt-4") == ["requests", "tokens"]
    assert limiter.check("alice", "gpt-4").count == 1


def test_the_file_is_read_again_and_usage_stays(limiter: PolicyLimiter, path: Path) -> None:
    for _ in range(3):
        assert limiter.allow("alice", "gpt-4")
    path.write_text("policies: [{id: requests, per: [user, model], limit: 4, windowSeconds: 60}]")
    assert not limiter.allow("alice", "gpt-4")
    limiter.reload()
    assert limiter.allow("alice", "gpt-4")
    assert not limiter.allow("alice", "gpt-4")
    path.write_text("policies: [{id: 1}]")
    with pytest.raises(ValueError, match=r"policies"):
        limiter.reload()
    assert limiter.peek("alice", "gpt-4").limit == 4
    # A file that is being written must not lift the limits.
    for empty in ("", "# soon\n"):
        path.write_text(empty)
        with pytest.raises(ValueError, match="has become empty; accepted: policies"):
            limiter.reload()
    assert limiter.peek("alice", "gpt-4").limit == 4


def test_tiers_of_users_come_from_the_file(tmp_path: Path) -> None:
    path = tmp_path / "catalog.yaml"
    path.write_text("""
tiers: [{id: free}, {id: pro}]
tenants: [{id: acme, tier: pro}]
policies:
  - {id: free, per: [tenant], match: {tier: free}, limit: 1, windowSeconds: 60}
  - {id: pro, per: [tenant], match: {tier: pro}, limit: 2, windowSeconds: 60}
""")
    limiter = PolicyLimiter.from_file(str(path))
    decision = limiter.check("alice", tenant="acme")
    assert (decision.policy_id, decision.limit) == ("pro", 2)


def test_it_counts_its_checks(limiter: PolicyLimiter) -> None:
    for _ in range(5):
        limiter.allow("alice", "gpt-4")
    metrics = limiter.reset_metrics()
    assert (metrics["allowed"], metrics["denied"], metrics["deny_rate"]) == (3, 2, 0.4)
    assert limiter.get_metrics()["total"] == 0


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({}, ValueError, "names no subject; accepted: at least one of user, model"),
        ({"user": ""}, ValueError, "user is empty; accepted: 1 to 256 bytes"),
        ({"user": "a" * 257}, ValueError, "user has 257 bytes"),
        ({"user": "a\nb"}, ValueError, "user has the control character"),
        ({"user": 1}, TypeError, "user is of the type int; accepted: str"),
        ({"ip": "localhost"}, ValueError, "ip is not an IP address"),
        ({"user": "a", "cost": -1}, ValueError, "cost is -1"),
        ({"user": "a", "cost": 1.5}, TypeError, "cost is of the type float"),
        ({"user": "a", "cost": {"Tokens": 1}}, ValueError, "cost.Tokens. names no unit"),
        ({"user": "a", "cost": {"concurrency": 1}}, ValueError, "names no unit"),
        ({"user": "a", "cost": {"tokens": -1}}, ValueError, "cost.tokens. is -1"),
        ({"user": "a", "cost": {"tokens": "1"}}, TypeError, "cost.tokens. is of the type str"),
        ({"user": "a", "cost": {1: 1}}, TypeError, "a unit in cost is of the type int; acc"),
        ({"user": "a", "cost": {f"u{n}": 1 for n in range(17)}}, ValueError, "has 17 units"),
        ({"user": "a", "attributes": ["x"]}, TypeError, "attributes is not a dict"),
        ({"user": "a", "attributes": {"user": "b"}}, ValueError, "accepted: the argument user"),
        ({"user": "a", "attributes": {"api_key": "b"}}, ValueError, "accepted: the argument api_k"),
        ({"user": "a", "attributes": {"x": 1}}, TypeError, "is of the type int"),
        ({"user": "a", "attributes": {f"x{n}": "y" for n in range(33)}}, ValueError, "33 members"),
        ({"user": "a", "request_id": ""}, ValueError, "request_id is empty"),
        ({"user": "a", "tennant": "b"}, TypeError, 'has no argument "tennant"; accepted: user'),
    ],
)
def test_arguments_are_checked(
    limiter: PolicyLimiter, arguments: dict[str, Any], error: type[Exception], text: str
) -> None:
    for call in (limiter.check, limiter.allow, limiter.peek, limiter.reset):
        with pytest.raises(error, match=text):
            call(**arguments)
    assert limiter.get_metrics()["keys"] == 0


def test_none_means_that_an_argument_is_not_given(limiter: PolicyLimiter) -> None:
    decision = limiter.check("alice", None, tenant=None, ip=None, attributes=None, cost=None)
    assert [limit.policy_id for limit in decision.limits] == ["tokens"]


@pytest.mark.parametrize(
    ("name", "content", "error", "text"),
    [
        ("missing.yaml", None, FileNotFoundError, "missing.yaml: cannot be read: No such file"),
        ("policies.txt", "", ValueError, "unknown extension; accepted"),
        ("policies.yaml", "policies: [{id: a, limit: -1}]", ValueError, "limit"),
        ("policies.json", "{", ValueError, "policies.json"),
    ],
)
def test_a_file_that_is_wrong_is_refused(
    tmp_path: Path, name: str, content: str | None, error: type[Exception], text: str
) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_text(content)
    with pytest.raises(error, match=text):
        PolicyLimiter.from_file(path)


def test_the_constructor_names_the_other_way() -> None:
    with pytest.raises(TypeError):
        PolicyLimiter()


OF_A_USER = """
policies:
  - {id: per-user-and-model, per: [user, model], limit: 1, windowSeconds: 60}
  - {id: per-user, per: [user], limit: 9, windowSeconds: 60}
  - {id: per-model, per: [model], limit: 100, windowSeconds: 60}
  - {id: per-tenant, per: [tenant], limit: 100, windowSeconds: 60}
"""


def used(limiter: PolicyLimiter, user: str, model: str) -> dict[str, int]:
    decision = limiter.peek(user, model, tenant="acme", cost=0)
    return {limit.policy_id: limit.count for limit in decision.limits}


def test_what_a_user_has_used_is_cleared_and_what_all_use_is_not(tmp_path: Path) -> None:
    path = tmp_path / "policies.yaml"
    path.write_text(OF_A_USER)
    limiter = PolicyLimiter.from_file(path)
    for user in ("alice", "bob"):
        for model in ("a", "b", "c"):
            assert limiter.allow(user, model, tenant="acme")
    cleared = limiter.reset_user("alice", ["a", "b"], tenant="acme")
    assert cleared == ["per-user", "per-user-and-model"]
    shared = {"per-model": 2, "per-tenant": 6}
    assert used(limiter, "alice", "a") == {"per-user-and-model": 0, "per-user": 0, **shared}
    assert used(limiter, "alice", "c") == {"per-user-and-model": 1, "per-user": 0, **shared}
    assert used(limiter, "bob", "a") == {"per-user-and-model": 1, "per-user": 3, **shared}
    # Without a model, only what is kept without one.
    assert limiter.reset_user("bob", (), tenant="acme") == ["per-user"]
    assert used(limiter, "bob", "a") == {"per-user-and-model": 1, "per-user": 0, **shared}
    wrapped = AsyncPolicyLimiter(limiter)
    assert asyncio.run(wrapped.reset_user("bob", ["a"], tenant="acme")) == cleared
    assert used(limiter, "bob", "a") == {"per-user-and-model": 0, "per-user": 0, **shared}


@pytest.mark.parametrize(
    ("user", "models", "error", "message"),
    [
        (None, ["a"], TypeError, "user is of the type NoneType; accepted: str"),
        ("", ["a"], ValueError, "user is empty; accepted: 1 to 256 bytes"),
        ("alice", "a", TypeError, "models is of the type str; accepted: a sequence of the names"),
        ("alice", None, TypeError, "models is of the type NoneType; accepted: a sequence"),
        ("alice", ["a", None], TypeError, r"models\[1\] is of the type NoneType; accepted: str"),
        ("alice", ["a", ""], ValueError, r"models\[1\] is empty; accepted: 1 to 256 bytes"),
        ("alice", ["a"] * 1001, ValueError, "models has more than 1000; accepted: at most 1000"),
    ],
)
def test_wrong_models_of_a_user_clear_nothing(
    user: Any, models: Any, error: type[Exception], message: str, tmp_path: Path
) -> None:
    path = tmp_path / "policies.yaml"
    path.write_text(OF_A_USER)
    limiter = PolicyLimiter.from_file(path)
    assert limiter.allow("alice", "a", tenant="acme")
    before = used(limiter, "alice", "a")
    with pytest.raises(error, match=f"^{message}"):
        limiter.reset_user(user, models)
    assert used(limiter, "alice", "a") == before


def test_a_cost_follows_the_model_as_in_a_rate_limiter(path: Path) -> None:
    limiter = PolicyLimiter.from_file(path)
    wrapped = AsyncPolicyLimiter(limiter)
    assert limiter.check("alice", "gpt-4", 2).count == 2
    assert not limiter.allow("alice", "gpt-4", 2)
    assert limiter.peek("alice", "gpt-4", {"requests": 0}).count == 2
    assert limiter.reserve("alice", "gpt-4", 1).decision.count == 3
    assert asyncio.run(wrapped.peek("alice", "gpt-4", 0)).count == 3
    assert asyncio.run(wrapped.check("alice", "gpt-3", 3)).count == 3
    assert not asyncio.run(wrapped.allow("alice", "gpt-3", 1))
    for wrong in (-1, 2**53):
        with pytest.raises(ValueError, match=rf"^cost is {wrong}; accepted: an integer from 0"):
            limiter.check("alice", "gpt-4", wrong)
    with pytest.raises(TypeError, match=r"^a unit in cost is of the type int; accepted: str"):
        limiter.check("alice", "gpt-4", {1: 1})  # type: ignore[dict-item]
