"""What a run of a scenario has seen: written by the Locust process, read by the judge.

Times are seconds of one monotonic clock, so that only differences mean something. This module knows neither
Locust nor the limits, so that what is judged is what was answered.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Answer:
    """One answered check. `status` 0 is a request without an answer; then `problem` says why."""

    group: str
    user_id: str
    service: str
    status: int
    sent_s: float
    answered_s: float
    policy_id: str | None = None
    count: int | None = None
    retry_after_s: int | None = None
    problem: str | None = None

    @property
    def latency_ms(self) -> float:
        return (self.answered_s - self.sent_s) * 1000


@dataclass(slots=True)
class Record:
    """All answers of a run in the order in which they came, and what else it has measured, by name."""

    scenario: str
    policy_ids: dict[str, str]
    answers: list[Answer] = field(default_factory=list)
    measured: dict[str, float] = field(default_factory=dict)

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self)), encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> Record:
        fields = json.loads(path.read_text(encoding="utf-8"))
        fields["answers"] = [Answer(**answer) for answer in fields["answers"]]
        return cls(**fields)
