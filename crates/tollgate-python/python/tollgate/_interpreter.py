"""Where the compiled part can be: in the main interpreter of a process.

Python itself refuses it in interpreters with a lock of their own. In others, such as those of
mod_wsgi, it would be imported, and would raise the exceptions of the interpreter that came first:
no `except` of another one catches them.
"""

from __future__ import annotations

import importlib
from typing import Any


def _refuse_subinterpreters() -> None:
    """Raise an `ImportError` in every interpreter but the main one."""
    interpreters = _interpreters()
    if interpreters is None or interpreters.get_current() == interpreters.get_main():
        return
    message = (
        "tollgate is imported in a subinterpreter; accepted: the main interpreter "
        "(in mod_wsgi: WSGIApplicationGroup %{GLOBAL})"
    )
    raise ImportError(message, name="tollgate")


def _interpreters() -> Any:
    """Return the module that knows the interpreters; from Python 3.13 on, it has the first name."""
    for name in ("_interpreters", "_xxsubinterpreters"):
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    return None


_refuse_subinterpreters()
