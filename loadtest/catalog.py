"""The tenant, users, tiers, key and policies that a run needs, made and removed through the admin API.

Every id begins with the run's own tenant and every policy matches that tenant, so that a run changes no
decision for anybody else on the server. Only the tiers `free` and `enterprise` are shared: where they exist
they are taken as they are.
"""

from __future__ import annotations

import http.client
import json
import secrets
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import plan

ANSWER_WITHIN_S = 10.0
TIERS: dict[str, object] = {"free": "standard", "enterprise": "premium"}


class AdminError(Exception):
    """A call that the server refused or did not answer, with the call, the problem and what is accepted."""


@dataclass(frozen=True, slots=True)
class Server:
    """Where the server is, and the token that may change its catalog."""

    url: str
    token: str

    def call(self, method: str, path: str, body: object = None, *, accept: tuple[int, ...] = ()) -> Any:
        """Calls, and gives the answer's JSON. A status of `accept` is no error, and gives None."""
        text = self._ask(method, path, body, accept)
        return json.loads(text) if text else None

    def metrics(self) -> dict[str, float]:
        """The server's metrics by name and labels, as `/metrics` writes them."""
        lines = self._ask("GET", "/metrics", None, ()).decode().splitlines()
        pairs = (line.rsplit(" ", 1) for line in lines if line and not line.startswith("#"))
        return {name: float(value) for name, value in pairs}

    def _ask(self, method: str, path: str, body: object, accept: tuple[int, ...]) -> bytes:
        request = urllib.request.Request(
            f"{self.url}{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"authorization": f"Bearer {self.token}", "content-type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=ANSWER_WITHIN_S) as answer:
                text: bytes = answer.read()
                return text
        except urllib.error.HTTPError as error:
            if error.code in accept:
                return b""
            raise AdminError(f"{method} {self.url}{path}: {_said(error)}") from error
        except (OSError, http.client.HTTPException) as error:
            raise AdminError(
                f"{method} {self.url}{path}: no answer ({getattr(error, 'reason', error)}); "
                "accepted: the address of a running server"
            ) from error


def _said(error: urllib.error.HTTPError) -> str:
    """A refusal in the server's own words."""
    text = error.read().decode(errors="replace")
    try:
        problem = json.loads(text)
        fields = [f"{at['field']} {at['problem']}; accepted: {at['accepted']}" for at in problem["errors"]]
        return f"{error.code}: " + "; ".join([problem["detail"], *fields])
    except (ValueError, KeyError, TypeError):
        return f"{error.code}: {text[:200]!r}, which is no answer of Tollgate's admin API"


@dataclass(slots=True)
class Fixture:
    """What is in the catalog for one run."""

    server: Server
    tenant: str = field(default_factory=lambda: f"loadtest-{secrets.token_hex(4)}")
    api_key: str = field(default="", repr=False)
    _made: list[str] = field(default_factory=list)

    @property
    def policy_ids(self) -> dict[str, str]:
        return {name: f"{self.tenant}-{name}" for name in ("free", "enterprise", "marketing", "key")}

    def user_id(self, group: str, number: int) -> str:
        return f"{self.tenant}-{group}-{number}"

    def set_up(self, scenario: str) -> None:
        """Makes what the scenario needs, and returns once it is in force."""
        try:
            for tier, priority in TIERS.items():
                self._make("tiers", {"id": tier, "priority": priority}, may_exist=True)
            self._make("tenants", {"id": self.tenant, "tier": "free"})
            for policy in self._policies():
                self._make("policies", policy)
            for group, users in _users(scenario).items():
                for number in range(users):
                    user = {"id": self.user_id(group, number), "tenantId": self.tenant, "tier": "free"}
                    self._make("users", user)
            if scenario == "parallel":
                key = {"id": f"{self.tenant}-key", "tenantId": self.tenant}
                key["userId"] = self.user_id("parallel", 0)
                self.api_key = self._make("api-keys", key)["key"]
            self._await_policies()
        except AdminError:
            self.tear_down()
            raise

    def tear_down(self) -> list[str]:
        """Removes what this run has made, newest first, and gives what could not be removed."""
        left = []
        while self._made:
            path = self._made.pop()
            try:
                # A tier that others use meanwhile stays (409); what is gone already is as wanted (404).
                self.server.call("DELETE", path, accept=(404, 409))
            except AdminError as error:
                left.append(str(error))
        return left

    def _make(self, kind: str, record: Mapping[str, object], *, may_exist: bool = False) -> Any:
        made = self.server.call("POST", f"/admin/{kind}", record, accept=(409,) if may_exist else ())
        if made is not None:
            self._made.append(f"/admin/{kind}/{record['id']}")
        return made

    def _policies(self) -> list[dict[str, object]]:
        ids = self.policy_ids

        def policy(name: str, scope: str, limit: int, **match: str) -> dict[str, object]:
            match["tenant"] = self.tenant
            return {
                "id": ids[name],
                "scope": scope,
                "limit": limit,
                "windowSeconds": plan.WINDOW_S,
                "match": match,
            }

        return [
            policy("free", "SERVICE", plan.FREE_LIMIT, service=plan.PAYMENTS, tier="free"),
            policy("enterprise", "SERVICE", plan.ENTERPRISE_LIMIT, service=plan.PAYMENTS, tier="enterprise"),
            policy("marketing", "SERVICE", plan.MARKETING_LIMIT, service=plan.MARKETING),
            policy("key", "API_KEY", plan.KEY_LIMIT),
        ]

    def _await_policies(self) -> None:
        """Waits until a peek meets the run's policies, which other nodes than the first learn of later."""
        peek = {"userId": self.user_id("nobody", 0), "modelId": plan.MODEL, "tenantId": self.tenant}
        peek |= {"service": plan.PAYMENTS}
        until_s = time.monotonic() + plan.CHANGE_HOLDS_WITHIN_S
        while True:
            met = self.server.call("POST", "/rate-limit/peek", peek)["policyId"]
            if met == self.policy_ids["free"]:
                return
            if time.monotonic() > until_s:
                raise AdminError(
                    f"POST {self.server.url}/rate-limit/peek: meets the policy {met!r}, "
                    f"{plan.CHANGE_HOLDS_WITHIN_S:.0f} s after {self.policy_ids['free']!r} was made; "
                    "accepted: a server whose own policies do not limit the load test's checks further"
                )
            time.sleep(0.05)


def _users(scenario: str) -> dict[str, int]:
    """How many users of which group a scenario needs."""
    groups = {
        "services": {"free": plan.FREE_USERS},
        "upgrade": {"upgraded": 1, "bystander": plan.BYSTANDERS},
        "parallel": {"parallel": 1},
    }
    return groups[scenario]
