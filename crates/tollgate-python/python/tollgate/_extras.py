"""What the extras of the package need."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def needs(extra: str) -> Iterator[None]:
    """Say how to install `extra` if an import in the block finds no module."""
    try:
        yield
    except ModuleNotFoundError as error:
        message = (
            f"the module {error.name} is missing; install it with the extra of this package: "
            f"pip install 'tollgate-limiter[{extra}]'"
        )
        raise ImportError(message, name=error.name) from error
