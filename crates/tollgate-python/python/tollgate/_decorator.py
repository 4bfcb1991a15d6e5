"""A decorator for functions of any kind."""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
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


def _is_any(function: Callable[..., object], *kinds: Callable[[object], bool]) -> bool:
    """Return whether a function, or the `__call__` of an object, is of one of `kinds`."""
    call = getattr(type(function), "__call__", None)  # noqa: B004 - asks for its kind
    return any(kind(one) for kind in kinds for one in (function, call))


def rate_limited(
    limiter: Limiter | AsyncLimiter,
    key: Callable[P, Mapping[str, Any] | None],
) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Limit the calls of a function, which may be `async`, and an async generator.

    `key` gets the arguments of the call and returns those of the limiter's `check`, or None if the
    call is not limited. A denied call raises `RateLimitExceeded`, and the function does not run.
    An async generator is checked, and raises, when its first item is asked for.
    """
    refuse_others(limiter)
    refuse_no_function("key", key)

    def limited(function: Callable[P, T]) -> Callable[P, T]:
        refuse_no_function("what is decorated", function)
        if _is_any(function, inspect.iscoroutinefunction, inspect.isasyncgenfunction):
            refuse_blocking(limiter)

            async def ask(*args: P.args, **kwargs: P.kwargs) -> None:
                arguments = arguments_of(key(*args, **kwargs))
                if arguments is not None:
                    decision = await decide_async(limiter, arguments)
                    if not decision.allowed:
                        raise RateLimitExceeded(decision)

            if _is_any(function, inspect.isasyncgenfunction):
                generate = cast("Callable[P, AsyncGenerator[Any, Any]]", function)

                @functools.wraps(function)
                async def ask_and_generate(*args: P.args, **kwargs: P.kwargs) -> Any:
                    await ask(*args, **kwargs)
                    generator = generate(*args, **kwargs)
                    try:
                        step = generator.__anext__()
                        while True:
                            try:
                                item = await step
                            except StopAsyncIteration:
                                return
                            try:
                                sent = yield item
                            except Exception as error:
                                step = generator.athrow(error)
                            else:
                                step = generator.asend(sent)
                    finally:
                        await generator.aclose()

                return cast("Callable[P, T]", ask_and_generate)

            @functools.wraps(function)
            async def ask_and_await(*args: P.args, **kwargs: P.kwargs) -> Any:
                await ask(*args, **kwargs)
                return await cast("Callable[P, Awaitable[Any]]", function)(*args, **kwargs)

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
