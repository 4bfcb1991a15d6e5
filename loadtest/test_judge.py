"""The judge passes a run in which the limits held, and names what differs in any other.

Runs with what Python brings: `python3 -m unittest discover --start-directory loadtest`. The load itself is
not made here; only that the scripts for it compile is looked at.
"""

from __future__ import annotations

import sys
import unittest
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import plan  # noqa: E402
import run  # noqa: E402
import server  # noqa: E402
from judge import ADMITTED, DENIED, judge  # noqa: E402
from record import Answer, Record  # noqa: E402

POLICY_IDS = {name: f"run-{name}" for name in ("free", "enterprise", "marketing", "key")}
Change = Callable[[Record], object]


def answers(
    policy: str, limit: int, checks: int, group: str, *, user: str = "u", service: str = ""
) -> list[Answer]:
    """What an exact limiter answers to so many checks of one user, one after the other."""
    return [
        Answer(
            group=group,
            user_id=user,
            service=service,
            status=ADMITTED if number <= limit else DENIED,
            sent_s=1.0,
            answered_s=1.01,
            policy_id=POLICY_IDS[policy],
            count=min(number, limit),
            retry_after_s=None if number <= limit else plan.WINDOW_S,
        )
        for number in range(1, checks + 1)
    ]


def services() -> Record:
    record = Record("services", POLICY_IDS)
    each = plan.CHECKS_PER_SERVICE
    for number in range(plan.FREE_USERS):
        user = f"u{number}"
        record.answers += answers("free", plan.FREE_LIMIT, each, "free", user=user, service=plan.PAYMENTS)
        record.answers += answers(
            "marketing", plan.MARKETING_LIMIT, each, "free", user=user, service=plan.MARKETING
        )
    return record


def upgrade() -> Record:
    record = Record("upgrade", POLICY_IDS, measured={"raise_sent_s": 2.0, "raise_answered_s": 2.1})
    record.answers += answers("free", plan.FREE_LIMIT, plan.FREE_LIMIT + plan.DENIALS_SEEN, "upgraded")
    after = answers(
        "enterprise", plan.ENTERPRISE_LIMIT, plan.ENTERPRISE_LIMIT + plan.DENIALS_SEEN, "upgraded"
    )
    record.answers += [replace(answer, sent_s=2.1, answered_s=2.2) for answer in after]
    for number in range(plan.BYSTANDERS):
        record.answers += answers(
            "free", plan.FREE_LIMIT, plan.FREE_LIMIT + 1, "bystander", user=f"b{number}"
        )
    return record


def parallel() -> Record:
    record = Record("parallel", POLICY_IDS, measured={"open_at_once": plan.PARALLEL_CHECKS})
    record.answers = answers("key", plan.KEY_LIMIT, plan.PARALLEL_CHECKS, "parallel")
    return record


def change_first(of_status: int, **changes: object) -> Change:
    """Changes the first answer of that status."""

    def change(record: Record) -> None:
        at = next(at for at, answer in enumerate(record.answers) if answer.status == of_status)
        record.answers[at] = replace(record.answers[at], **changes)  # type: ignore[arg-type]

    return change


def deny_on_marketing(record: Record) -> None:
    at = next(at for at, answer in enumerate(record.answers) if answer.service == plan.MARKETING)
    record.answers[at] = replace(record.answers[at], status=DENIED, retry_after_s=1)


def late_denial_as_free(record: Record) -> None:
    late = answers("free", 0, 1, "upgraded")[0]
    record.answers.append(replace(late, sent_s=7.0, answered_s=7.1))


class JudgeTest(unittest.TestCase):
    def failed(self, record: Record) -> list[str]:
        return [row.what for row in judge(record) if row.passed is False]

    def check(self, record: Record, change: Change, expected: str) -> None:
        change(record)
        self.assertIn(expected, self.failed(record))

    def test_passes_what_an_exact_limiter_answers(self) -> None:
        for make in (services, upgrade, parallel):
            with self.subTest(make.__name__):
                self.assertEqual(self.failed(make()), [])

    def test_fails_a_run_in_which_one_answer_is_wrong(self) -> None:
        lost = change_first(ADMITTED, status=0, problem="0 connection reset")
        unavailable = change_first(DENIED, status=503, problem="503 store")
        another = change_first(DENIED, policy_id="theirs")
        cases: list[tuple[Callable[[], Record], Change, str]] = [
            (services, change_first(DENIED, status=ADMITTED), "payments: admitted, each user"),
            (services, change_first(ADMITTED, status=DENIED), "payments: the first 429 is check no."),
            (services, change_first(DENIED, retry_after_s=None), "Retry-After of each 429"),
            (services, deny_on_marketing, "marketing: 429"),
            (services, lost, "failed or other statuses"),
            (services, change_first(ADMITTED, sent_s=-plan.WINDOW_S), "all checks within one window"),
            (upgrade, late_denial_as_free, "429s end after the tier is raised"),
            (upgrade, lambda record: record.measured.clear(), "429s end after the tier is raised"),
            (upgrade, change_first(ADMITTED, status=DENIED), "as free: admitted"),
            (upgrade, another, "decided by another policy"),
            (upgrade, lambda record: record.answers.pop(-2), "free users beside: admitted, each user"),
            (parallel, change_first(DENIED, status=ADMITTED), "one API key: admitted"),
            (parallel, unavailable, "failed or other statuses"),
            (
                parallel,
                lambda record: record.measured.update(open_at_once=1),
                "requests open at once, says the server",
            ),
        ]
        for make, change, expected in cases:
            with self.subTest(f"{make.__name__}: {expected}"):
                self.check(make(), change, expected)

    def test_fails_a_run_that_saw_nothing(self) -> None:
        for scenario in plan.SCENARIOS:
            with self.subTest(scenario):
                self.assertNotEqual(self.failed(Record(scenario, POLICY_IDS)), [])

    def test_one_admission_too_many_after_the_upgrade_fails(self) -> None:
        record = upgrade()
        record.answers.append(replace(record.answers[plan.FREE_LIMIT + plan.DENIALS_SEEN]))
        self.assertEqual(self.failed(record), ["as enterprise: admitted until 429s come back"])


class ScriptsTest(unittest.TestCase):
    def test_the_bounds_of_all_parts_keep_the_bound_of_the_whole(self) -> None:
        beside_s = run.BESIDE_THE_RUN_S + run.LOCUST_ENDS_WITHIN_S
        scenarios_s = sum(most_s + beside_s for most_s in plan.RUN_AT_MOST_S.values())
        whole_s = server.STARTS_WITHIN_S + scenarios_s + server.ENDS_WITHIN_S
        self.assertLessEqual(whole_s, plan.ALL_AT_MOST_S)

    def test_every_script_compiles(self) -> None:
        for script in sorted(HERE.glob("*.py")):
            with self.subTest(script.name):
                compile(script.read_text(encoding="utf-8"), script.name, "exec")


if __name__ == "__main__":
    unittest.main()
