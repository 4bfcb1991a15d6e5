"""Three loads on a Tollgate server, as its users make them. `--scenario` selects one.

    services  100 free users ask for the service `payments` beyond their limit, and for `marketing`
    upgrade   a free user is raised to the tier `enterprise` while its checks are being denied
    parallel  5,000 checks on one API key are open at the same time

`make loadtest` runs them one after the other and judges what they have seen. By hand, with a server of your
own and its token in TOLLGATE_ADMIN_TOKEN:

    locust -f loadtest/locustfile.py --headless --scenario services --host http://127.0.0.1:8000

A run makes what it needs in the catalog, and removes it. The users here only ask and write down the answers:
whether an answer is right is for `judge.py`.
"""

from __future__ import annotations

import itertools
import json
import logging
import os
import time
from argparse import ArgumentParser
from pathlib import Path
from typing import Any, ClassVar

from gevent.event import Event
from locust import FastHttpUser, LoadTestShape, User, events, task
from locust.env import Environment
from locust.exception import StopUser

import plan
from catalog import AdminError, Fixture, Server
from record import Answer, Record

log = logging.getLogger("loadtest")

DECISIONS_TAKING = "tollgate_decision_duration_seconds_bucket{"


class Run:
    """One run of a scenario: what is in the catalog for it, what was seen, and whether it is through."""

    def __init__(self, scenario: str, server: Server) -> None:
        self.metrics_before = server.metrics()
        self.fixture = Fixture(server)
        self.fixture.set_up(scenario)
        self.record = Record(scenario, self.fixture.policy_ids)
        self.started_s = time.monotonic()
        self.numbers: dict[str, itertools.count[int]] = {}
        self.users_done = 0
        # Of the user that is raised: denials by policy, and when the first of them came.
        self.denials: dict[str | None, int] = {}
        self.denied_since_s: dict[str | None, float] = {}
        self.connected = 0
        self.all_connected = Event()
        self.held = 0
        self.all_held = Event()
        self.release = Event()

    def number(self, group: str) -> int:
        return next(self.numbers.setdefault(group, itertools.count()))

    def keep(self, answer: Answer) -> None:
        self.record.answers.append(answer)
        if answer.group == UpgradedConnection.group and answer.status == 429:
            self.denials[answer.policy_id] = self.denials.get(answer.policy_id, 0) + 1
            self.denied_since_s.setdefault(answer.policy_id, answer.answered_s)

    def long_denied(self, policy: str) -> bool:
        """Whether the user that is raised was denied by this policy often and for long."""
        policy_id = self.fixture.policy_ids[policy]
        since_s = self.denied_since_s.get(policy_id)
        if since_s is None or self.denials[policy_id] < plan.DENIALS_SEEN:
            return False
        return time.monotonic() - since_s >= plan.DENIED_FOR_S

    def through(self) -> bool:
        """Whether there is nothing more to see, or no time to see it in."""
        scenario = self.record.scenario
        if time.monotonic() - self.started_s > plan.RUN_AT_MOST_S[scenario]:
            return True
        if scenario == "upgrade":
            return self.long_denied("enterprise") or len(self.record.answers) >= plan.MOST_UPGRADE_CHECKS
        return self.users_done == {"services": plan.FREE_USERS, "parallel": plan.PARALLEL_CHECKS}[scenario]

    def finish(self) -> None:
        """Notes how long the server itself has taken to decide this run's checks."""
        try:
            after = self.fixture.server.metrics()
        except AdminError as error:
            log.warning("%s", error)
            return
        for name, value in after.items():
            if name.startswith(DECISIONS_TAKING) and 'call="enforce"' in name:
                self.record.measured[name] = value - self.metrics_before.get(name, 0.0)


class CurrentRun:
    """The run under way. Locust makes users and shape by itself, so they find it here."""

    run: ClassVar[Run | None] = None

    @classmethod
    def get(cls) -> Run:
        if cls.run is None:
            raise StopUser
        return cls.run


class HeldBody:
    """A body whose last byte waits until every other request is open too.

    It has a length, so that it is sent with one and the last byte goes out alone, and `read`, which the
    client calls for one piece after the other.
    """

    def __init__(self, run: Run, body: bytes) -> None:
        self._run = run
        self._length = len(body)
        self._pieces = [body[-1:], body[:-1]]
        self.completed_s = 0.0

    def __len__(self) -> int:
        return self._length

    def read(self, _most_bytes: int = 0) -> bytes:
        if not self._pieces:
            return b""
        if len(self._pieces) == 1:
            self._run.held += 1
            if self._run.held == plan.PARALLEL_CHECKS:
                self._run.all_held.set()
            self._run.release.wait(plan.HOLD_OPEN_AT_MOST_S)
            self.completed_s = time.monotonic()
        return self._pieces.pop()


class Caller(FastHttpUser):
    """Asks `/rate-limit/enforce` over one connection of its own, and keeps every answer."""

    abstract = True
    group: ClassVar[str]
    # Whether each asks for a user of its own, or all of the group for the same one.
    own_user: ClassVar[bool] = True
    connection_timeout = 15.0
    network_timeout = 20.0
    concurrency = 1

    def on_start(self) -> None:
        self.current = CurrentRun.get()
        number = self.current.number(self.group) if self.own_user else 0
        self.user_id = self.current.fixture.user_id(self.group, number)

    def enforce(self, service: str) -> Answer:
        body = {"userId": self.user_id, "modelId": plan.MODEL, "service": service}
        return self.send(service, json.dumps(body).encode())

    def send(self, service: str, body: bytes | HeldBody) -> Answer:
        """Sends a check and keeps its answer. A 429 is an answer, not a failure."""
        headers = {"content-type": "application/json"}
        sent_s = time.monotonic()
        with self.client.post(
            "/rate-limit/enforce",
            data=body,  # type: ignore[arg-type]  # what is sent may be any bytes or file
            headers=headers,
            name=f"enforce {service}",
            catch_response=True,
        ) as response:
            answered_s = time.monotonic()
            if isinstance(body, HeldBody):
                sent_s = body.completed_s or sent_s
                response.request_meta["response_time"] = (answered_s - sent_s) * 1000
            answer = self._answer(service, response, (sent_s, answered_s))
            if answer.problem is None:
                response.success()
            else:
                response.failure(answer.problem)
        self.current.keep(answer)
        return answer

    def _answer(self, service: str, response: Any, times_s: tuple[float, float]) -> Answer:
        fields: dict[str, Any] = {}
        problem = None
        if response.status_code in (200, 429):
            decision = response.json()
            fields = {"policy_id": decision["policyId"], "count": decision["count"]}
            retry_after = response.headers.get("retry-after")
            fields["retry_after_s"] = None if retry_after is None else int(retry_after)
        else:
            problem = f"{response.status_code} {response.error or response.text}"
        return Answer(
            self.group, self.user_id, service, response.status_code, *times_s, problem=problem, **fields
        )

    def done(self) -> None:
        self.current.users_done += 1
        raise StopUser


class FreeUser(Caller):
    """A: asks for `payments` and `marketing` in turn, a fixed number of times."""

    group = "free"
    fixed_count = plan.FREE_USERS

    @task
    def ask(self) -> None:
        for _ in range(plan.CHECKS_PER_SERVICE):
            self.enforce(plan.PAYMENTS)
            self.enforce(plan.MARKETING)
        self.done()


class UpgradedConnection(Caller):
    """B: one of many connections that ask for the same user, without a pause."""

    group = "upgraded"
    own_user = False
    fixed_count = plan.UPGRADED_CONNECTIONS

    @task
    def ask(self) -> None:
        if len(self.current.record.answers) >= plan.MOST_UPGRADE_CHECKS:
            self.done()
        self.enforce(plan.PAYMENTS)


class Bystander(Caller):
    """B: a free user of the same tenant and service, whom the change is not about."""

    group = "bystander"
    fixed_count = plan.BYSTANDERS

    @task
    def ask(self) -> None:
        if len(self.current.record.answers) >= plan.MOST_UPGRADE_CHECKS:
            self.done()
        self.enforce(plan.PAYMENTS)


class Operator(FastHttpUser):
    """B: raises the user's tier, once enough of its checks were denied."""

    fixed_count = 1

    @task
    def raise_tier(self) -> None:
        run = CurrentRun.get()
        while not run.long_denied("free"):
            # Only looks at counters of this process, between the answers that change them.
            time.sleep(0.01)
        user_id = run.fixture.user_id(UpgradedConnection.group, 0)
        headers = {"authorization": f"Bearer {run.fixture.server.token}"}
        run.record.measured["raise_sent_s"] = time.monotonic()
        self.client.patch(
            f"/admin/users/{user_id}", json={"tier": "enterprise"}, headers=headers, name="PATCH /admin/users"
        )
        run.record.measured["raise_answered_s"] = time.monotonic()
        raise StopUser


class ParallelCaller(Caller):
    """C: connects, opens one request on the shared API key, and completes it when all are open."""

    group = "parallel"
    own_user = False
    fixed_count = plan.PARALLEL_CHECKS

    @task
    def ask(self) -> None:
        self.client.get("/healthz", name="connect")
        self.current.connected += 1
        if self.current.connected == plan.PARALLEL_CHECKS:
            self.current.all_connected.set()
        self.current.all_connected.wait(plan.RUN_AT_MOST_S["parallel"])
        check = {"userId": self.user_id, "modelId": plan.MODEL, "apiKey": self.current.fixture.api_key}
        body = HeldBody(self.current, json.dumps(check).encode())
        self.send("held", body)
        self.done()


class Observer(FastHttpUser):
    """C: asks the server how many requests it holds open, and lets them go once it is all of them."""

    fixed_count = 1

    @task
    def release(self) -> None:
        run = CurrentRun.get()
        run.all_connected.wait(plan.RUN_AT_MOST_S["parallel"])
        until_s = time.monotonic() + plan.HOLD_OPEN_AT_MOST_S
        open_at_once = 0
        while open_at_once < plan.PARALLEL_CHECKS and time.monotonic() < until_s:
            run.all_held.wait(1.0)
            # The question itself is being answered too, and is none of them.
            in_flight = run.fixture.server.metrics()["tollgate_http_requests_in_flight"]
            open_at_once = max(open_at_once, int(in_flight) - 1)
        run.record.measured["open_at_once"] = open_at_once
        run.release.set()
        raise StopUser


Users = list[type[User]]
USERS: dict[str, Users] = {
    "services": [FreeUser],
    "upgrade": [UpgradedConnection, Bystander, Operator],
    "parallel": [ParallelCaller, Observer],
}
# Above what the first two need at once; 5,000 connections in 5 s overflow no backlog.
SPAWN_PER_S = 1_000


class Scenario(LoadTestShape):
    """Starts the users of the selected scenario, and ends the run when it is through or out of time."""

    def tick(self) -> tuple[int, float, Users] | None:
        assert self.runner is not None, "Locust sets it before the first tick"
        options = self.runner.environment.parsed_options
        assert options is not None, "so does it"
        scenario: str = options.scenario
        if CurrentRun.run is None:
            try:
                CurrentRun.run = start(scenario, self.runner.environment.host)
            except AdminError as error:
                log.error("%s", error)
                self.runner.environment.process_exit_code = 2
                return None
        if CurrentRun.run.through():
            end(options.record)
            return None
        users = USERS[scenario]
        return sum(user.fixed_count for user in users), SPAWN_PER_S, users


def start(scenario: str, url: str | None) -> Run:
    """Makes what the run needs on the server."""
    if not url:
        raise AdminError("--host: is not given; accepted: the server's URL, such as http://127.0.0.1:8000")
    token = os.environ.get("TOLLGATE_ADMIN_TOKEN", "")
    if not token:
        raise AdminError(
            f"TOLLGATE_ADMIN_TOKEN: is not set; accepted: the token that may change {url}'s catalog"
        )
    return Run(scenario, Server(url.rstrip("/"), token))


def end(record_to: str) -> None:
    """Writes the record and removes what the run has made; also when Locust is told to end early."""
    run, CurrentRun.run = CurrentRun.run, None
    if run is None:
        return
    run.finish()
    if record_to:
        run.record.write(Path(record_to))
    for left in run.fixture.tear_down():
        log.warning("not removed: %s", left)


@events.quitting.add_listener  # type: ignore[untyped-decorator]
def on_quitting(environment: Environment, **_: Any) -> None:
    end(environment.parsed_options.record if environment.parsed_options else "")


@events.init_command_line_parser.add_listener  # type: ignore[untyped-decorator]
def add_options(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--scenario", choices=plan.SCENARIOS, default=plan.SCENARIOS[0], help="Which load to make"
    )
    parser.add_argument("--record", metavar="FILE", default="", help="Write every answer to this JSON file")
