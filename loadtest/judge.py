"""Whether what a run has seen is what the limits allow: pure, from a record to rows of the table.

A check compares exact numbers wherever the limiter promises them. Of times only the promised 5 s are judged,
and that the run lay within one window; latencies are figures to read, never a verdict.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import plan
from record import Answer, Record

ADMITTED = 200
DENIED = 429


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table. A row without `passed` is a figure, which nothing is asked of."""

    what: str
    wanted: str
    got: str
    passed: bool | None


def judge(record: Record) -> list[Row]:
    rows = JUDGES[record.scenario](record)
    return [*rows, _within_the_window(record), _no_failures(record), *_figures(record)]


def _services(record: Record) -> list[Row]:
    payments = [answer for answer in record.answers if answer.service == plan.PAYMENTS]
    marketing = [answer for answer in record.answers if answer.service == plan.MARKETING]
    denials = [answer for answer in payments if answer.status == DENIED]
    admitted = _by_user(payments, ADMITTED)
    first_denied = [_first_denial(answers) for answers in _users(payments).values()]
    counted = _users(marketing).values()
    return [
        _each(
            "free users on payments: checks sent",
            plan.CHECKS_PER_SERVICE,
            _by_user(payments),
            plan.FREE_USERS,
        ),
        _each("payments: admitted, each user", plan.FREE_LIMIT, admitted, plan.FREE_USERS),
        _each("payments: the first 429 is check no.", plan.FREE_LIMIT + 1, first_denied, plan.FREE_USERS),
        _exactly(
            "payments: 429", plan.FREE_USERS * (plan.CHECKS_PER_SERVICE - plan.FREE_LIMIT), len(denials)
        ),
        _waits(denials),
        _exactly(
            "marketing: admitted", plan.FREE_USERS * plan.CHECKS_PER_SERVICE, _count(marketing, ADMITTED)
        ),
        _exactly("marketing: 429", 0, _count(marketing, DENIED)),
        _each(
            "marketing: counted, each user",
            plan.CHECKS_PER_SERVICE,
            [max(answer.count or 0 for answer in answers) for answers in counted],
            plan.FREE_USERS,
        ),
    ]


def _upgrade(record: Record) -> list[Row]:
    free, enterprise = record.policy_ids["free"], record.policy_ids["enterprise"]
    raised = [answer for answer in record.answers if answer.group == "upgraded"]
    bystanders = [answer for answer in record.answers if answer.group == "bystander"]
    by_free = [answer for answer in raised if answer.policy_id == free]
    by_enterprise = [answer for answer in raised if answer.policy_id == enterprise]
    admitted = _count(by_enterprise, ADMITTED)
    denials = [answer for answer in by_enterprise if answer.status == DENIED]
    return [
        _exactly("as free: admitted", plan.FREE_LIMIT, _count(by_free, ADMITTED)),
        _at_least("as free: 429 under load", plan.DENIALS_SEEN, _count(by_free, DENIED)),
        _end_of_denials(record, by_free, by_enterprise),
        _exactly("as enterprise: admitted until 429s come back", plan.ENTERPRISE_LIMIT, admitted),
        _at_least("as enterprise: 429 after that", plan.DENIALS_SEEN, len(denials)),
        _each(
            "as enterprise: usage at each 429",
            plan.ENTERPRISE_LIMIT,
            [answer.count or 0 for answer in denials],
        ),
        _no_other_policy(raised, {free, enterprise}),
        _each(
            "free users beside: admitted, each user",
            plan.FREE_LIMIT,
            _by_user(bystanders, ADMITTED),
            plan.BYSTANDERS,
        ),
    ]


def _parallel(record: Record) -> list[Row]:
    open_at_once = int(record.measured.get("open_at_once", 0))
    denials = [answer for answer in record.answers if answer.status == DENIED]
    return [
        _at_least("requests open at once, says the server", plan.PARALLEL_CHECKS, open_at_once),
        _exactly("one API key: admitted", plan.KEY_LIMIT, _count(record.answers, ADMITTED)),
        _exactly("one API key: 429", plan.PARALLEL_CHECKS - plan.KEY_LIMIT, len(denials)),
        _waits(denials),
        *_decision_times(record),
    ]


JUDGES: dict[str, Callable[[Record], list[Row]]] = {
    "services": _services,
    "upgrade": _upgrade,
    "parallel": _parallel,
}


def _end_of_denials(record: Record, by_free: list[Answer], by_enterprise: list[Answer]) -> Row:
    """From the change being sent to the last denial by the old tier and the first admission by the new."""
    what = "429s end after the tier is raised"
    wanted = f"within {plan.CHANGE_HOLDS_WITHIN_S:.0f} s"
    sent_s = record.measured.get("raise_sent_s")
    first = min((answer.answered_s for answer in by_enterprise if answer.status == ADMITTED), default=None)
    if sent_s is None or first is None:
        return Row(what, wanted, "never" if sent_s is not None else "the tier was not raised", False)
    last = max((answer.answered_s for answer in by_free if answer.status == DENIED), default=first)
    took_s = max(first, last) - sent_s
    return Row(what, wanted, f"after {took_s:.3f} s", took_s <= plan.CHANGE_HOLDS_WITHIN_S)


def _no_other_policy(answers: list[Answer], own: set[str]) -> Row:
    """On a server with policies of its own, those could decide instead of the load test's."""
    decided = [answer for answer in answers if answer.status in (ADMITTED, DENIED)]
    return _none("decided by another policy", Counter(a.policy_id for a in decided if a.policy_id not in own))


def _waits(denials: list[Answer]) -> Row:
    """Every denial says when to come back: after at least a second and at most the window."""
    waits = [answer.retry_after_s or 0 for answer in denials]
    passed = bool(waits) and min(waits) >= 1 and max(waits) <= plan.WINDOW_S
    return Row("Retry-After of each 429", f"1 to {plan.WINDOW_S} s", f"{_span(waits)} s", passed)


def _within_the_window(record: Record) -> Row:
    """Without this the numbers of admissions would prove nothing: a second window admits as many again."""
    took_s = _took_s(record.answers)
    return Row(
        "all checks within one window", f"below {plan.WINDOW_S} s", f"{took_s:.1f} s", took_s < plan.WINDOW_S
    )


def _no_failures(record: Record) -> Row:
    failed = [answer for answer in record.answers if answer.status not in (ADMITTED, DENIED)]
    return _none("failed or other statuses", Counter(answer.problem for answer in failed))


def _figures(record: Record) -> list[Row]:
    latencies_ms = sorted(answer.latency_ms for answer in record.answers)
    if not latencies_ms:
        return []
    took_s = max(_took_s(record.answers), 1e-6)
    at = {f"p{percent}": _percentile(latencies_ms, percent) for percent in (50, 95, 99)}
    at["max"] = latencies_ms[-1]
    return [
        Row("checks", "", f"{len(latencies_ms):,} in {took_s:.2f} s", None),
        Row("latency seen by Locust", "", ", ".join(f"{name} {ms:.1f} ms" for name, ms in at.items()), None),
    ]


def _decision_times(record: Record) -> list[Row]:
    """The server's own histogram of this run: the bounds of the buckets that the percentiles lie in."""
    buckets = {
        float(name.split('le="')[1].split('"')[0]): count
        for name, count in record.measured.items()
        if name.startswith("tollgate_decision_duration_seconds_bucket{")
    }
    total = buckets.get(float("inf"), 0.0)
    if not total:
        return []
    bounds = []
    for percent in (50, 95, 99):
        bound_s = min(le for le, count in buckets.items() if count >= total * percent / 100)
        bounds.append(f"p{percent} ≤ {bound_s * 1000:g} ms")
    return [Row("time to decide, says the server", "", ", ".join(bounds), None)]


def _none(what: str, found: Counter[str | None]) -> Row:
    """Nothing was found; otherwise how much, and the most common of it."""
    got = f"{found.total():,}"
    if found:
        example, times = found.most_common(1)[0]
        got += f", {times:,} times {example}"
    return Row(what, "0", got, not found)


def _exactly(what: str, wanted: int, got: int) -> Row:
    return Row(what, f"{wanted:,}", f"{got:,}", got == wanted)


def _at_least(what: str, wanted: int, got: int) -> Row:
    return Row(what, f"at least {wanted:,}", f"{got:,}", got >= wanted)


def _each(what: str, wanted: int, got: list[int], of: int | None = None) -> Row:
    """Every value is the wanted one, and there are as many values as there should be."""
    passed = bool(got) and all(value == wanted for value in got) and of in (None, len(got))
    return Row(
        what, f"{wanted:,} of {of:,}" if of else f"{wanted:,}", f"{_span(got)} of {len(got):,}", passed
    )


def _span(values: list[int]) -> str:
    if not values:
        return "none"
    low, high = min(values), max(values)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _users(answers: Iterable[Answer]) -> dict[str, list[Answer]]:
    users: dict[str, list[Answer]] = {}
    for answer in answers:
        users.setdefault(answer.user_id, []).append(answer)
    return users


def _by_user(answers: Iterable[Answer], status: int | None = None) -> list[int]:
    """How many answers, of one status or all, each user got."""
    return [len(mine) if status is None else _count(mine, status) for mine in _users(answers).values()]


def _first_denial(answers: list[Answer]) -> int:
    """Which of a user's checks is the first denied one, from 1; 0 if none is."""
    return next((number for number, answer in enumerate(answers, 1) if answer.status == DENIED), 0)


def _count(answers: Iterable[Answer], status: int) -> int:
    return sum(answer.status == status for answer in answers)


def _took_s(answers: list[Answer]) -> float:
    if not answers:
        return 0.0
    return max(answer.answered_s for answer in answers) - min(answer.sent_s for answer in answers)


def _percentile(ordered: list[float], percent: int) -> float:
    """The smallest value that so many percent of the values are not above."""
    return ordered[max(0, -(-len(ordered) * percent // 100) - 1)]
