"""The arguments of the clients. They are checked before anything is sent."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from .._tollgate import check_arguments
from .._types import CheckArguments
from ._httpx import httpx

_FIELDS = {
    "user": "userId",
    "model": "modelId",
    "tenant": "tenantId",
    "api_key": "apiKey",
    "service": "service",
    "ip": "ip",
    "attributes": "attributes",
    "cost": "cost",
    "request_id": "requestId",
}
_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
_MAX_BATCH = 1000
# A day. What waits for longer has no limit; and sockets refuse what no clock can count.
_MAX_TIMEOUT_S = 86_400
_MAX_SHOWN = 60
# Of a URL, far above the ids that servers accept.
_MAX_PART = 4096
_MAX_PORT = 65_535


def shown(value: object) -> str:
    """Return `value` for a message, shortened."""
    try:
        text = repr(value)
    except ValueError:
        # Python does not write integers with thousands of digits.
        return "too large"
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}…"


class Check(CheckArguments, total=False):
    """A check of a batch: the arguments of `Client.check`."""

    user: str | None
    model: str | None


def check_connection(base_url: object, timeout: object, http: object, kind: type) -> None:
    """Check where a client connects, and how long it waits."""
    if http is not None and not isinstance(http, kind):
        message = f"http is of the type {type(http).__name__}; accepted: httpx.{kind.__name__}"
        raise TypeError(message)
    if isinstance(timeout, bool) or not isinstance(timeout, int | float):
        message = f"timeout is of the type {type(timeout).__name__}; accepted: a number of seconds"
        raise TypeError(message)
    if not 0 < timeout <= _MAX_TIMEOUT_S:
        message = (
            f"timeout is {shown(timeout)}; accepted: seconds above 0, at most {_MAX_TIMEOUT_S}"
        )
        raise ValueError(message)
    if not isinstance(base_url, str):
        message = f"base_url is of the type {type(base_url).__name__}; accepted: str"
        raise TypeError(message)
    if http is None and not _is_address(base_url):
        message = (
            f"base_url is {shown(base_url)}; accepted: http://HOST[:PORT] or https://HOST[:PORT]"
        )
        raise ValueError(message)


def _is_address(base_url: str) -> bool:
    try:
        url = httpx.URL(base_url)
    except (httpx.InvalidURL, UnicodeError):
        return False
    if url.scheme not in ("http", "https") or not url.host or url.query or url.fragment:
        return False
    return url.port is None or 0 < url.port <= _MAX_PORT


def place_of(url: httpx.URL) -> str:
    """Return the scheme, the host and the port of `url`; it may have a password too."""
    return f"{url.scheme}://{url.netloc.decode()}" if url.host else "no address"


def check_admin_token(token: object) -> None:
    """Check a token. No message shows it."""
    if token is None:
        return
    if not isinstance(token, str):
        message = f"admin_token is of the type {type(token).__name__}; accepted: str or None"
        raise TypeError(message)
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        message = "admin_token cannot be sent; accepted: printable ASCII without spaces"
        raise ValueError(message)


def check_admin_call(
    method: object, path: object, body: object, parameters: Mapping[str, object]
) -> None:
    """Check a call of `/admin`."""
    for name, value in (("method", method), ("path", path)):
        if not isinstance(value, str):
            message = f"{name} is of the type {type(value).__name__}; accepted: str"
            raise TypeError(message)
    if method not in _METHODS:
        message = f"method is {shown(method)}; accepted: {', '.join(_METHODS)}"
        raise ValueError(message)
    _check_sent("path", path)
    try:
        json.dumps(body, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        message = f"body cannot be written as JSON: {error}; accepted: what json.dumps takes"
        raise type(error)(message) from None
    for name, value in parameters.items():
        if not isinstance(value, str | int):
            kind = type(value).__name__
            message = f"{shown(name)} is of the type {kind}; accepted: str or an integer"
            raise TypeError(message)
        _check_sent(shown(name), str(value))


def _check_sent(name: str, text: object) -> None:
    """Raise if `text` cannot be a part of a URL."""
    if not isinstance(text, str) or not text.isprintable() or len(text) > _MAX_PART:
        message = f"{name} cannot be sent; accepted: at most {_MAX_PART} printable characters"
        raise ValueError(message)


def body_of(function: str, check: Mapping[str, object]) -> dict[str, Any]:
    """Return the JSON of the arguments of `function`."""
    others = {name: value for name, value in check.items() if name not in ("user", "model")}
    check_arguments(function, check.get("user"), check.get("model"), others)
    body = {_FIELDS[name]: value for name, value in check.items() if value is not None}
    if isinstance(body.get("cost"), int):
        body["cost"] = {"requests": body["cost"]}
    return body


def batch_of(checks: Sequence[Check]) -> list[dict[str, Any]]:
    """Return the JSON of each of `checks`."""
    if isinstance(checks, str | bytes) or not isinstance(checks, Sequence):
        kind = type(checks).__name__
        message = f"checks is of the type {kind}; accepted: a list of the arguments of check"
        raise TypeError(message)
    if not 1 <= len(checks) <= _MAX_BATCH:
        message = f"checks has {len(checks)} checks; accepted: 1 to {_MAX_BATCH:,}"
        raise ValueError(message)
    return [_one_of(place, check) for place, check in enumerate(checks)]


def _one_of(place: int, check: object) -> dict[str, Any]:
    if not isinstance(check, Mapping):
        kind = type(check).__name__
        message = f"checks[{place}] is of the type {kind}; accepted: the arguments of check"
        raise TypeError(message)
    try:
        return body_of("check", check)
    except (TypeError, ValueError) as error:
        message = f"checks[{place}]: {error}"
        raise type(error)(message) from None
