"""A service in Flask whose users get three requests a minute each on a model.

pip install "tollgate-limiter[flask]"
flask --app flask_app run
curl -i -H 'x-user: alice' http://127.0.0.1:5000/models/gpt-4
"""

from flask import Flask, Request
from tollgate import RateLimiter
from tollgate.flask import RateLimit

# RedisRateLimiter("redis://127.0.0.1:6379", 3, 60) shares the limit with other processes.
limiter = RateLimiter(max_requests=3, window_seconds=60)


def key(request: Request) -> dict[str, str] | None:
    """Say who asks for what. Take the user from your authentication, not from a header."""
    if not request.view_args:
        return None  # not limited
    return {"user": request.headers.get("x-user", "anonymous"), "model": request.view_args["model"]}


app = Flask(__name__)
RateLimit(app, limiter=limiter, key=key)


@app.get("/models/<model>")
def answer(model: str) -> dict[str, str]:
    """Answer as the model."""
    return {"model": model, "answer": "word word word"}


@app.get("/health")
def health() -> str:
    """Answer without a limit."""
    return "ok"
