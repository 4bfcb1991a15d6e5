"""A service in FastAPI whose users get three requests a minute each on a model.

pip install "tollgate-limiter[fastapi]" uvicorn
uvicorn fastapi_app:app
curl -i -H 'x-user: alice' http://127.0.0.1:8000/models/gpt-4
"""

from fastapi import Depends, FastAPI, Request
from tollgate import RateLimiter
from tollgate.fastapi import RateLimit

# AsyncRedisRateLimiter("redis://127.0.0.1:6379", 3, 60) shares the limit with other processes.
limiter = RateLimiter(max_requests=3, window_seconds=60)


def key(request: Request) -> dict[str, str]:
    """Say who asks for what. Take the user from your authentication, not from a header."""
    return {
        "user": request.headers.get("x-user", "anonymous"),
        "model": request.path_params["model"],
    }


app = FastAPI()


@app.get("/models/{model}", dependencies=[Depends(RateLimit(limiter, key))])
async def answer(model: str) -> dict[str, str]:
    """Answer as the model."""
    return {"model": model, "answer": "word word word"}
