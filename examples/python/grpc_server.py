"""A gRPC server whose users get three calls a minute each of a method.

pip install "tollgate-limiter[grpc]"
python grpc_server.py 127.0.0.1:50051

Messages are bytes, so that the example needs no generated code; with generated code, add your
servicer to the same server.
"""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor

import grpc
from tollgate import RateLimiter
from tollgate.grpc import RateLimitInterceptor

# RedisRateLimiter("redis://127.0.0.1:6379", 3, 60) shares the limit with other processes.
limiter = RateLimiter(max_requests=3, window_seconds=60)


def key(details: grpc.HandlerCallDetails) -> dict[str, str] | None:
    """Say who asks for what. Take the user from your authentication, not from its metadata."""
    if not details.method.startswith("/models."):
        return None  # not limited
    user = dict(details.invocation_metadata).get("x-user", "anonymous")
    return {"user": str(user), "model": details.method}


def answer(prompt: bytes, _: grpc.ServicerContext) -> bytes:
    """Answer as the model."""
    return b" ".join(reversed(prompt.split()))


def make_server(address: str) -> tuple[grpc.Server, int]:
    """Return a server that is not started yet, and its port."""
    server = grpc.server(ThreadPoolExecutor(4), interceptors=[RateLimitInterceptor(limiter, key)])
    methods = {"Complete": grpc.unary_unary_rpc_method_handler(answer)}
    server.add_generic_rpc_handlers(
        [
            grpc.method_handlers_generic_handler("models.Models", methods),
            grpc.method_handlers_generic_handler("health.Health", methods),
        ]
    )
    return server, server.add_insecure_port(address)


def main(address: str) -> None:
    """Serve until the process ends."""
    server, port = make_server(address)
    server.start()
    print(f"listens at port {port}")
    server.wait_for_termination()


if __name__ == "__main__":
    main(sys.argv[1])
