"""What whoever runs the service may set."""

from __future__ import annotations

from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Limits(BaseModel):
    """What one client may ask for.

    Attributes:
        body_bytes: The largest request.
        text_characters: The longest text of a query or an item.
        per_second: Requests of one client (its API key, else its address) per second in the long run; 0 for no limit.
        burst: How many it may make at once.
        items: The most items in the pool.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    body_bytes: int = Field(default=262_144, ge=1024)
    text_characters: int = Field(default=8192, ge=1)
    per_second: float = Field(default=100.0, ge=0)
    burst: int = Field(default=200, ge=1)
    items: int = Field(default=1_000_000, ge=1)


class ServiceConfig(BaseModel):
    """How HARE is served. ``dim``, ``encoder`` and ``hare`` are fixed by the first start on a database.

    Attributes:
        dim: Length of queries and items. Texts are embedded and reduced to as many principal components.
        encoder: What embeds texts (``minilm``, a folder, a hub's id); empty where clients send vectors.
        hare: Hyperparameters, see `hare_agents.hare.config.HAREConfig`.
        seed: Of HARE's randomness.
        snapshot_every: Rewards between snapshots; after a crash, what came since is learned again from the log.
        keep_days: Days after which a recommendation that got no feedback is forgotten.
        limits: See `Limits`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    dim: int = Field(default=16, ge=1, le=512)
    encoder: str = ""
    hare: dict[str, Any] = Field(default_factory=dict)
    seed: int = Field(default=0, ge=0)
    snapshot_every: int = Field(default=5_000, ge=1)
    keep_days: float = Field(default=30.0, gt=0)
    limits: Limits = Limits()

    @model_validator(mode="after")
    def _reward_scale(self) -> Self:
        if self.hare.get("freeze_at", 0) and self.hare["freeze_at"] < 1:
            raise ValueError("hare.freeze_at: a service has no horizon to take a share of. Give a number of rounds.")
        return self

    def hare_knobs(self) -> dict[str, Any]:
        """Hyperparameters; of texts a user is first expected to want what is like the query."""
        of_texts = {"likeness": 2.0, "curvature": 1.0} if self.encoder else {}
        return {**of_texts, **self.hare}
