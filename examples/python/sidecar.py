"""A worker that asks a Tollgate server beside it before each call of the model.

Run it with the address of the server: python sidecar.py http://127.0.0.1:8000
"""

from __future__ import annotations

import sys

from tollgate.client import Client, ReservationDenied


def answer(prompt: str) -> tuple[str, int]:
    """Stand for the model: return its answer and how many tokens that has."""
    words = prompt.split()
    return " ".join(reversed(words)), len(words)


def work(client: Client, user: str, prompt: str) -> str:
    """Reserve what the answer may use, and settle what it used."""
    try:
        with client.reserve(user, "gpt-4", ttl=60, cost={"output_tokens": 100}) as lease:
            text, tokens = answer(prompt)
            lease.observe({"output_tokens": tokens})
            return text
    except ReservationDenied as denied:
        return f"retry after {denied.decision.retry_after_ms} ms"


def main(address: str) -> None:
    """Answer two prompts."""
    with Client(address, timeout=5) as client:
        for prompt in ["one two three", "four five"]:
            print(work(client, "alice", prompt))


if __name__ == "__main__":
    main(sys.argv[1])
