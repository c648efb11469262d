"""The HTTP side: what may be asked, how much of it, and by whom."""

from __future__ import annotations

import hmac
import threading
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Annotated, Any, Literal

import anyio.to_thread
from fastapi import Depends, FastAPI, HTTPException, Query, Request, Response
from fastapi import Path as PathParameter
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from pydantic import BaseModel, ConfigDict, Field
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hare_agents.database import StorageError
from hare_agents.service.config import Limits
from hare_agents.service.errors import ConflictError, MissingError
from hare_agents.service.recommender import NewItem, Recommender
from hare_gym.errors import DataError

_NAME = r"^[A-Za-z0-9._@:+=-]{1,128}$"
_THREADS = 128
_CLIENTS = 10_000

Name = Annotated[str, Field(pattern=_NAME, examples=["ada"])]
Vector = Annotated[list[Annotated[float, Field(allow_inf_nan=False, ge=-1e6, le=1e6)]], Field(max_length=512)]

NamePath = Annotated[str, PathParameter(pattern=_NAME)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=False)


class Ask(_Body):
    """Whom to recommend what for: a query as a vector, or as a text where the service has an encoder."""

    user: Name
    query: Vector | None = None
    text: str | None = None
    size: int = Field(default=1, ge=1, le=100)
    mode: Literal["select", "synthesize"] = "select"


class Shown(BaseModel):
    """An item, and its share of the attention."""

    id: str
    text: str | None
    weight: float


class Round(BaseModel):
    """What was recommended. ``content`` is what was synthesized, and the items are then those it was made from."""

    round: str
    items: list[Shown]
    content: list[float] | None


class Feedback(_Body):
    """What a round's item was worth; the first item if none is named."""

    round: str = Field(pattern="^[0-9a-f]{32}$")
    reward: float = Field(ge=0, le=1, allow_inf_nan=False)
    item: Name | None = None


class Learned(BaseModel):
    """``new`` is false where the very same was said before, which changes nothing."""

    new: bool


class User(BaseModel):
    """What is known of a user: u_t and its standard deviations, in units of the noise."""

    user: str
    since: int
    rounds: int
    rewards: int
    state: list[float]
    deviation: list[float]


class Deleted(BaseModel):
    """How much was deleted."""

    rounds: int
    rewards: int


class Item(_Body):
    """A new item: a vector, or a text where the service has an encoder; a vector with a text keeps both."""

    id: Name
    vector: Vector | None = None
    text: str | None = None


class Items(_Body):
    """New items, which are taken all or not at all."""

    items: list[Item] = Field(min_length=1, max_length=1000)


class PoolSize(BaseModel):
    """How many items there are."""

    items: int


class PoolPage(BaseModel):
    """Some of the pool; ``after`` the last id of them comes the next page."""

    items: list[dict[str, str | None]]


class Health(BaseModel):
    """Whether it learns, and how much it has."""

    status: Literal["ok", "broken"]
    users: int
    items: int
    rewards: int


class Problem(BaseModel):
    """What is wrong, and what to do."""

    detail: str


def _problems(*codes: int) -> dict[int | str, dict[str, Any]]:
    meanings = {
        401: "The key is missing or wrong.",
        404: "There is no such thing.",
        409: "It contradicts what is known.",
        413: "The request is too large.",
        422: "The request is not understood.",
        429: "Too many requests.",
        503: "It could not be recorded; nothing was.",
    }
    return {code: {"model": Problem, "description": meanings[code]} for code in (401, 413, 429, 503, *codes)}


def create_app(
    recommender: Recommender | Callable[[], Recommender], key: str | None = None, limits: Limits | None = None
) -> FastAPI:
    """The service as an ASGI app.

    Args:
        recommender: What it serves, or what makes it when the server starts; closed when the server stops.
        key: The API key that clients send as ``Authorization: Bearer KEY``; None for no key.
        limits: The recommender's own by default.
    """
    state: dict[str, Recommender] = {}
    if isinstance(recommender, Recommender):
        state["recommender"] = recommender
        limits = limits or recommender.config.limits
    limits = limits or Limits()

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        if not isinstance(recommender, Recommender):
            state["recommender"] = recommender()
        anyio.to_thread.current_default_thread_limiter().total_tokens = _THREADS
        yield
        state["recommender"].close()

    def served() -> Recommender:
        return state["recommender"]

    app = FastAPI(
        title="HARE",
        version="1",
        summary="Recommends, synthesizes, and learns one person at a time.",
        lifespan=lifespan,
        responses=_problems(),
    )

    def fits(*texts: str | None) -> None:
        longest = max((len(text) for text in texts if text is not None), default=0)
        if longest > limits.text_characters:
            raise DataError(f"A text of {longest} characters is too long: at most {limits.text_characters}.")

    guards: list[Any] = [Depends(Pace(Buckets(limits.per_second, limits.burst), key is not None))]
    if key is not None:
        guards.insert(0, Depends(Key(key)))
    guarded: dict[str, Any] = {"dependencies": guards}

    @app.post("/v1/recommend", response_model=Round, responses=_problems(409, 422), **guarded)
    def recommend(ask: Ask) -> Round:
        """Recommends items, or synthesizes content, and remembers the round."""
        fits(ask.text)
        made = served().recommend(ask.user, ask.query, ask.text, ask.size, ask.mode == "synthesize")
        shown = [
            Shown(id=item, text=text, weight=weight)
            for item, text, weight in zip(made.items, made.texts, made.weights, strict=True)
        ]
        return Round(round=made.round, items=shown, content=made.content)

    @app.post("/v1/feedback", response_model=Learned, responses=_problems(404, 409, 422), **guarded)
    def feedback(said: Feedback) -> Learned:
        """Learns what a round was worth. An answer means that it is on the disk; the same again changes nothing."""
        return Learned(new=served().feedback(said.round, said.reward, said.item))

    @app.get("/v1/users/{user}", response_model=User, responses=_problems(404, 422), **guarded)
    def get_user(user: NamePath) -> User:
        """What is known of a user."""
        return User(**served().user(user))

    @app.delete("/v1/users/{user}", response_model=Deleted, responses=_problems(404, 422), **guarded)
    def delete_user(user: NamePath) -> Deleted:
        """Deletes a user and all that they said."""
        return Deleted(**served().delete_user(user))

    @app.get("/v1/pool", response_model=PoolPage, responses=_problems(422), **guarded)
    def get_pool(
        after: Annotated[str, Query(pattern=r"^[A-Za-z0-9._@:+=-]{0,128}$")] = "",
        size: Annotated[int, Query(ge=1, le=1000)] = 100,
    ) -> PoolPage:
        """Some of the pool, by id."""
        return PoolPage(items=served().pool(after, size))

    @app.post("/v1/pool", response_model=PoolSize, status_code=201, responses=_problems(409, 422), **guarded)
    def add_items(new: Items) -> PoolSize:
        """Takes new items into the pool, all or none."""
        fits(*(item.text for item in new.items))
        items = [NewItem(item.id, item.vector, item.text) for item in new.items]
        return PoolSize(items=served().add_items(items))

    @app.delete("/v1/pool/{item}", status_code=204, responses=_problems(404, 409, 422), **guarded)
    def remove_item(item: NamePath) -> Response:
        """Lets an item leave the pool."""
        served().remove_item(item)
        return Response(status_code=204)

    @app.get("/health", response_model=Health)
    def health(response: Response) -> Health:
        """Whether it learns; status 503 if not."""
        broken = served().broken is not None
        response.status_code = 503 if broken else 200
        return Health(status="broken" if broken else "ok", **served().counts())

    metrics = Metrics(served)

    @app.get("/metrics", response_class=Response, **guarded)
    def told() -> Response:
        """Counters for Prometheus."""
        return Response(metrics.text(), media_type=CONTENT_TYPE_LATEST)

    app.add_middleware(_Timed, metrics=metrics)
    app.add_middleware(_SizeLimit, limit=limits.body_bytes)
    _add_handlers(app)
    return app


def _add_handlers(app: FastAPI) -> None:
    def answered(code: int) -> Callable[[Request, Exception], Response]:
        return lambda _, error: JSONResponse({"detail": str(error)}, code)

    for error, code in ((MissingError, 404), (ConflictError, 409), (DataError, 422), (StorageError, 503)):
        app.add_exception_handler(error, answered(code))

    def misunderstood(_: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        parts = [f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors()[:5]]
        return JSONResponse({"detail": "; ".join(parts) + "."}, 422)

    app.add_exception_handler(RequestValidationError, misunderstood)


class Buckets:
    """Token buckets by client: ``burst`` requests at once, ``rate`` per second in the long run; 0 for no limit."""

    def __init__(self, rate: float, burst: int) -> None:
        self.rate, self.burst = rate, burst
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._lock = threading.Lock()

    def wait(self, client: str) -> float:
        """Takes a token, or tells how many seconds there will be none."""
        if not self.rate:
            return 0.0
        with self._lock:
            now = time.monotonic()
            left, at = self._left.pop(client, (float(self.burst), now))
            left = min(self.burst, left + (now - at) * self.rate)
            enough = left >= 1.0
            self._left[client] = (left - enough, now)
            if len(self._left) > _CLIENTS:
                self._left.popitem(last=False)
            return 0.0 if enough else (1.0 - left) / self.rate


_BEARER = HTTPBearer(auto_error=False)


class Key:
    """Lets a request in that has the API key."""

    def __init__(self, key: str) -> None:
        self.key = key.encode()

    def __call__(self, given: Annotated[HTTPAuthorizationCredentials | None, Depends(_BEARER)]) -> None:
        """Raises HTTPException 401."""
        if not hmac.compare_digest(given.credentials.encode() if given else b"", self.key):
            raise HTTPException(
                401,
                "The API key is missing or wrong. Send it as 'Authorization: Bearer KEY'.",
                {"WWW-Authenticate": "Bearer"},
            )


class Pace:
    """Lets a request in that comes not too soon after its client's others (an address; with a key all are one)."""

    def __init__(self, buckets: Buckets, keyed: bool) -> None:
        self.buckets, self.keyed = buckets, keyed

    def __call__(self, request: Request) -> None:
        """Raises HTTPException 429."""
        client = "" if self.keyed or request.client is None else request.client.host
        wait = self.buckets.wait(client)
        if wait > 0.0:
            raise HTTPException(
                429, f"Too many requests. Try again in {wait:.2f} seconds.", {"Retry-After": str(int(wait) + 1)}
            )


class Metrics:
    """What Prometheus may read."""

    def __init__(self, served: Callable[[], Recommender]) -> None:
        self._served = served
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "hare_requests", "Requests answered.", ["method", "route", "status"], registry=self.registry
        )
        self._seconds = Histogram(
            "hare_request_seconds", "Time to answer.", ["method", "route"], registry=self.registry
        )
        self._counts = {
            name: Gauge(f"hare_{name}", f"{name.capitalize()} known.", registry=self.registry)
            for name in ("users", "items", "rewards")
        }

    def seen(self, method: str, route: str, status: int, seconds: float) -> None:
        """Counts one answer."""
        self._requests.labels(method, route, str(status)).inc()
        self._seconds.labels(method, route).observe(seconds)

    def text(self) -> bytes:
        """All of it, as Prometheus reads it."""
        for name, value in self._served().counts().items():
            self._counts[name].set(value)
        return generate_latest(self.registry)


class _Timed:
    """Tells `Metrics` of every answer."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app, self.metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        start, status = time.perf_counter(), 500

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, noted)
        finally:
            path = getattr(scope.get("route"), "path", "unknown")
            self.metrics.seen(scope["method"], path, status, time.perf_counter() - start)


class _SizeLimit:
    """Refuses a request whose body is larger than it says it may be, or than it says it is."""

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self.app, self.limit = app, limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        announced = dict(scope["headers"]).get(b"content-length", b"0")
        body = b""
        too_large = announced.isdigit() and int(announced) > self.limit
        while not too_large:
            message = await receive()
            if message["type"] != "http.request":
                return
            body += message.get("body", b"")
            too_large = len(body) > self.limit
            if not message.get("more_body", False):
                break
        if too_large:
            detail = f"The request is larger than {self.limit} bytes. Send less at once."
            await JSONResponse({"detail": detail}, 413, {"Connection": "close"})(scope, receive, send)
            return
        given = False

        async def replay() -> Message:
            nonlocal given
            if given:
                return await receive()
            given = True
            return {"type": "http.request", "body": body, "more_body": False}

        await self.app(scope, replay, send)
