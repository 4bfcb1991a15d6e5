"""httpx, which needs the extra `client`."""

from __future__ import annotations

from .._extras import needs

with needs("client"):
    import httpx

__all__ = ["httpx"]
