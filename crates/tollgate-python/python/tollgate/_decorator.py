"""A decorator for functions of any kind."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast

from ._errors import RateLimitExceeded
from ._http import (
    arguments_of,
    decide,
    decide_async,
    refuse_async,
    refuse_blocking,
    refuse_no_function,
    refuse_others,
)

if TYPE_CHECKING:
    from ._http import AsyncLimiter, Limiter

P = ParamSpec("P")
T = TypeVar("T")


def rate_limited(
    limiter: Limiter | AsyncLimiter,
    key: Callable[P, Mapping[str, Any] | None],
) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Limit the calls of a function, which may be `async`.

    `key` gets the arguments of the call and returns those of the limiter's `check`, or None if the
    call is not limited. A denied call raises `RateLimitExceeded`, and the function does not run.
    """
    refuse_others(limiter)
    refuse_no_function("key", key)

    def limited(function: Callable[P, T]) -> Callable[P, T]:
        refuse_no_function("what is decorated", function)
        if inspect.iscoroutinefunction(function):
            refuse_blocking(limiter)

            @functools.wraps(function)
            async def ask_and_await(*args: P.args, **kwargs: P.kwargs) -> Any:
                arguments = arguments_of(key(*args, **kwargs))
                if arguments is not None:
                    decision = await decide_async(limiter, arguments)
                    if not decision.allowed:
                        raise RateLimitExceeded(decision)
                return await function(*args, **kwargs)

            return cast("Callable[P, T]", ask_and_await)

        refuse_async(limiter)

        @functools.wraps(function)
        def ask_and_call(*args: P.args, **kwargs: P.kwargs) -> T:
            arguments = arguments_of(key(*args, **kwargs))
            if arguments is not None:
                decision = decide(cast("Limiter", limiter), arguments)
                if not decision.allowed:
                    raise RateLimitExceeded(decision)
            return function(*args, **kwargs)

        return ask_and_call

    return limited
