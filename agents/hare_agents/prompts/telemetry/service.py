"""The engine and the store together, for a program that serves visitors from several threads and processes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

from hare_agents.database import StorageError
from hare_agents.prompts.config import PromptsConfig
from hare_agents.prompts.context import Context
from hare_agents.prompts.engine import PromptEngine, Recommendation
from hare_agents.prompts.events import Event
from hare_agents.prompts.library import Library
from hare_agents.prompts.telemetry.store import Telemetry


class PromptService:
    """Recommends by what all processes have recorded, at most ``refresh`` seconds old.

    Args:
        library: The prompts; they are registered.
        url: The database; see `Telemetry`.
        config: The published one by default.
        refresh: Seconds after which a recommendation reads what others have recorded.
        clock: Seconds since 1970; another one for tests.

    Attributes:
        engine: The engine; only this class may use it.
        telemetry: The store.
        trouble: Why the store could not be read the last time, or None. Recommendations go on meanwhile.
    """

    def __init__(
        self,
        library: Library,
        url: str,
        config: PromptsConfig | None = None,
        *,
        refresh: float = 10.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.telemetry = Telemetry(url, config)
        self.telemetry.register(library)
        self.engine = PromptEngine(library, config)
        self.trouble: StorageError | None = None
        self._refresh, self._clock = refresh, clock
        self._lock = threading.Lock()
        self._since: int | None = None
        self._next = 0.0

    def recommend(self, context: Context, k: int | None = None) -> list[Recommendation]:
        """The slate for a context; raises as `PromptEngine.recommend` does, and never because of the store."""
        with self._lock:
            self._catch_up()
            return self.engine.recommend(context, self._clock(), k)

    def explain(self, context: Context, prompt: str) -> str:
        """Why a prompt has its score now; raises as `PromptEngine.explain` does."""
        with self._lock:
            self._catch_up()
            return self.engine.explain(context, prompt, self._clock())

    def record(self, events: Sequence[Event], *, late: bool = False) -> int:
        """Records events, all or none; raises as `Telemetry.record_many` does."""
        return self.telemetry.record_many(events, late=late)

    def _catch_up(self) -> None:
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + self._refresh
        try:
            self._since = self.telemetry.refresh(self.engine, self._since)
            self.trouble = None
        except StorageError as error:
            self.trouble = error
