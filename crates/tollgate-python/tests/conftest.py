"""What tests share."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest
from servers import Redis
from tollgate import ManualClock


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(1_700_000_000)


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Redis]:
    """Return a Redis that all tests share: each uses users of its own."""
    redis = Redis(tmp_path_factory.mktemp("redis"))
    yield redis
    redis.end()


@pytest.fixture
def user() -> str:
    """Return a user that no other test uses."""
    return f"user {uuid.uuid4()}"
