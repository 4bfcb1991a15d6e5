"""Storages for the package `limits`, and so for slowapi and Flask-Limiter: `tollgate://`.

Importing this module registers them: then `limits.storage.storage_from_string("tollgate://")`, or
`storage_uri="tollgate://"` of an extension, counts in Tollgate, in memory. It needs the extra
`limits`.
"""

from __future__ import annotations

import functools
import operator
import time
from typing import TYPE_CHECKING

from ._extras import needs
from ._tollgate import WindowStore

with needs("limits"):
    import limits.aio.storage
    import limits.storage
    from limits.errors import ConfigurationError
    from limits.storage.base import TimestampedSlidingWindow

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._tollgate import ManualClock

__all__ = ["AsyncTollgateStorage", "TollgateStorage"]


# Looks `time.time` up with each call, because tests replace it. It is no function in Python: when
# the interpreter ends while a daemon thread is in one that Rust has called, the process aborts.
_time: Callable[[], float] = functools.partial(operator.methodcaller("time"), time)


def _store(
    uri: str | None, scheme: str, max_keys: int | None, clock: Callable[[], float] | ManualClock
) -> WindowStore:
    if uri not in {None, f"{scheme}://"}:
        message = f"the storage is {uri!r:.60}; accepted: {scheme}://, with options as arguments"
        raise ConfigurationError(message)
    return WindowStore(max_keys=max_keys, clock=clock)


class TollgateStorage(
    limits.storage.Storage,
    limits.storage.MovingWindowSupport,
    limits.storage.SlidingWindowCounterSupport,
    TimestampedSlidingWindow,
):
    """A storage for the strategies of `limits`: `tollgate://`. In memory, for one process.

    A moving window is exact: no interval of its length ever holds more than the limit, under any
    number of threads. Each key has a fixed, a moving and a sliding window, which count apart.
    """

    STORAGE_SCHEME = ["tollgate"]  # noqa: RUF012 - declared so by `limits`

    def __init__(
        self,
        uri: str | None = None,
        wrap_exceptions: bool = False,
        *,
        max_keys: int | None = None,
        clock: Callable[[], float] | ManualClock = _time,
    ) -> None:
        """Start empty.

        :param uri: `tollgate://`, or None
        :param wrap_exceptions: whether a `ValueError` becomes a `limits.errors.StorageError`
        :param max_keys: the most keys of each strategy, 10 million by default
        :param clock: returns seconds since the Unix epoch; by default `time.time`
        """
        super().__init__(uri, wrap_exceptions=wrap_exceptions)
        # The command `flask limiter` shows what has this name.
        self.storage = _store(uri, "tollgate", max_keys, clock)

    @property
    def base_exceptions(self) -> type[Exception]:
        """What `wrap_exceptions` wraps: the error of an argument that is out of range."""
        return ValueError

    def incr(self, key: str, expiry: float, amount: int = 1) -> int:
        """Add `amount` to a fixed window of `expiry` seconds, and return what it then holds."""
        return self.storage.incr(key, expiry, amount)

    def get(self, key: str) -> int:
        """Return what the fixed window holds."""
        return self.storage.get(key)

    def get_expiry(self, key: str) -> float:
        """Return when the fixed window ends, in seconds since the Unix epoch; now if it is over."""
        return self.storage.get_expiry(key)

    def check(self) -> bool:
        """Return True: memory does not fail."""
        return True

    def reset(self) -> int:
        """Clear all windows, and return how many there were."""
        return self.storage.reset()

    def clear(self, key: str) -> None:
        """Clear all windows of `key`."""
        self.storage.clear(key)

    def acquire_entry(self, key: str, limit: int, expiry: int, amount: int = 1) -> bool:
        """Add `amount` if at most `limit` are then in the last `expiry` seconds."""
        return self.storage.acquire_moving(key, limit, expiry, amount)

    def get_moving_window(self, key: str, limit: int, expiry: int) -> tuple[float, int]:  # noqa: ARG002
        """Return the time of the oldest hit in the last `expiry` seconds, and what they cost."""
        return self.storage.get_moving(key, expiry)

    def acquire_sliding_window_entry(
        self, key: str, limit: int, expiry: int, amount: int = 1
    ) -> bool:
        """Add `amount` if the weighted count of two windows is then at most `limit`."""
        return self.storage.acquire_sliding(key, limit, expiry, amount)

    def get_sliding_window(self, key: str, expiry: int) -> tuple[int, float, int, float]:
        """Return what the window before holds and for how many seconds, and the current one."""
        return self.storage.get_sliding(key, expiry)

    def clear_sliding_window(self, key: str, expiry: int) -> None:  # noqa: ARG002
        """Clear the sliding window counter of `key`."""
        self.storage.clear_sliding(key)


class AsyncTollgateStorage(
    limits.aio.storage.Storage,
    limits.aio.storage.MovingWindowSupport,
    limits.aio.storage.SlidingWindowCounterSupport,
    TimestampedSlidingWindow,
):
    """The same for `limits.aio`: `async+tollgate://`. It never waits."""

    STORAGE_SCHEME = ["async+tollgate"]  # noqa: RUF012 - declared so by `limits`

    def __init__(
        self,
        uri: str | None = None,
        wrap_exceptions: bool = False,
        *,
        max_keys: int | None = None,
        clock: Callable[[], float] | ManualClock = _time,
    ) -> None:
        """See `TollgateStorage`."""
        super().__init__(uri, wrap_exceptions=wrap_exceptions)
        self.storage = _store(uri, "async+tollgate", max_keys, clock)

    @property
    def base_exceptions(self) -> type[Exception]:
        """See `TollgateStorage.base_exceptions`."""
        return ValueError

    async def incr(self, key: str, expiry: float, amount: int = 1) -> int:
        """See `TollgateStorage.incr`."""
        return self.storage.incr(key, expiry, amount)

    async def get(self, key: str) -> int:
        """See `TollgateStorage.get`."""
        return self.storage.get(key)

    async def get_expiry(self, key: str) -> float:
        """See `TollgateStorage.get_expiry`."""
        return self.storage.get_expiry(key)

    async def check(self) -> bool:
        """See `TollgateStorage.check`."""
        return True

    async def reset(self) -> int:
        """See `TollgateStorage.reset`."""
        return self.storage.reset()

    async def clear(self, key: str) -> None:
        """See `TollgateStorage.clear`."""
        self.storage.clear(key)

    async def acquire_entry(self, key: str, limit: int, expiry: int, amount: int = 1) -> bool:
        """See `TollgateStorage.acquire_entry`."""
        return self.storage.acquire_moving(key, limit, expiry, amount)

    async def get_moving_window(self, key: str, limit: int, expiry: int) -> tuple[float, int]:  # noqa: ARG002
        """See `TollgateStorage.get_moving_window`."""
        return self.storage.get_moving(key, expiry)

    async def acquire_sliding_window_entry(
        self, key: str, limit: int, expiry: int, amount: int = 1
    ) -> bool:
        """See `TollgateStorage.acquire_sliding_window_entry`."""
        return self.storage.acquire_sliding(key, limit, expiry, amount)

    async def get_sliding_window(self, key: str, expiry: int) -> tuple[int, float, int, float]:
        """See `TollgateStorage.get_sliding_window`."""
        return self.storage.get_sliding(key, expiry)

    async def clear_sliding_window(self, key: str, expiry: int) -> None:  # noqa: ARG002
        """See `TollgateStorage.clear_sliding_window`."""
        self.storage.clear_sliding(key)
