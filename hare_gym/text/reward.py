"""The simulated reward of the text environments: how well a text serves a hidden user with a need.

mu = V G r^wr f^wd l^wl s^ws a^wa: validity, guards against gaming, relevance to the query, fit to the user's mix of
domains, level against expertise, specificity, style. The exponents sum to one, so that the five parts enter as a
weighted geometric mean and none can be bought with another. docs/reward_model.md shows that it measures what it says.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hare_gym import portable
from hare_gym.config import configure
from hare_gym.errors import ConfigError
from hare_gym.text.corpus import DOMAINS, STYLES, TOPICS
from hare_gym.text.measure import Measured, Measures, content_of, echo_guard, measures, query_topics
from hare_gym.text.users import Users

Array = NDArray[np.float64]

PARTS = ("validity", "guard", "relevance", "domain", "level", "specificity", "style")
"""The parts of the reward, in the order of `info`."""

REWARD_VERSION = "skills-1"


@dataclass(frozen=True)
class RewardConfig:
    """The weights and widths of the reward. The defaults are frozen: they are what the id ``-v0`` means.

    Attributes:
        relevance: Exponent of relevance to the query.
        domain: Exponent of fit to the user's domains.
        level: Exponent of level against expertise.
        specificity: Exponent of specificity.
        style: Exponent of style.
        level_width: Standard deviation of the level's Gaussian.
        specificity_width: The same for specificity.
        floor: Relevance, domain and style never fall below this, so that a text that misses one of them still
            differs from one that misses all.
    """

    relevance: float = field(default=0.25, metadata={"low": 0})
    domain: float = field(default=0.3, metadata={"low": 0})
    level: float = field(default=0.15, metadata={"low": 0})
    specificity: float = field(default=0.15, metadata={"low": 0})
    style: float = field(default=0.15, metadata={"low": 0})
    level_width: float = field(default=0.25, metadata={"above": 0})
    specificity_width: float = field(default=0.3, metadata={"above": 0})
    floor: float = field(default=0.1, metadata={"above": 0, "below": 1})

    def __post_init__(self) -> None:
        total = self.relevance + self.domain + self.level + self.specificity + self.style
        if abs(total - 1.0) > 1e-9:
            raise ConfigError(f"The exponents of the reward must sum to one, not {total:.6g}.")


class RewardModel:
    """Judges content for users and queries.

    Every method takes one user (``users[k]``) or several, one content vector or several; leading axes broadcast.

    Args:
        config: Fields of `RewardConfig`.
    """

    def __init__(self, **config: Any) -> None:
        self.config = configure(RewardConfig, config, "the reward model")

    # -- one text -----------------------------------------------------------------------------------------------

    def parts(self, user: Users, query: Array, measured: Measured, query_text: str = "") -> dict[str, float]:
        """The reward's parts for a text, by `PARTS`.

        Args:
            user: One user.
            query: The query's vector, ``(17,)``.
            measured: The text.
            query_text: The query's words, for the guard against echoing them; empty for items, which do not know it.
        """
        found = {name: float(value) for name, value in self._of_measures(user, query, measured.measures).items()}
        echo = echo_guard(query_text, measured.text) if query_text else 1.0
        return {"validity": measured.validity, "guard": measured.guard * echo} | found

    def mean(self, user: Users, query: Array, measured: Measured, query_text: str = "") -> float:
        """The expected reward of a text, mu, in [0, 1]."""
        return self.combine(self.parts(user, query, measured, query_text))

    def combine(self, parts: dict[str, float]) -> float:
        """The expected reward, mu, from the parts."""
        if parts["validity"] <= 0.0 or parts["guard"] <= 0.0:
            return 0.0
        logs: list[float] = [getattr(self.config, name) * portable.log(parts[name]) for name in PARTS[2:]]
        return parts["validity"] * parts["guard"] * portable.exp(max(sum(logs), -60.0))

    # -- content ------------------------------------------------------------------------------------------------

    def of_content(self, user: Users, query: Array, phi: Array) -> dict[str, Array]:
        """Relevance, domain, level, specificity and style of content vectors: what ``synthesize`` is judged by.

        Args:
            user: Users, ``(...)``.
            query: ``(..., 17)``.
            phi: ``(..., 17)``.
        """
        return self._of_measures(user, query, measures(phi))

    def _of_measures(self, user: Users, query: Array, m: Measures) -> dict[str, Array]:
        return {"relevance": self._relevance(query, m)} | self.fit(user, m)

    def mean_of_content(self, user: Users, query: Array, phi: Array) -> Array:
        """The expected reward of content vectors, ``(...)``; validity and guards are 1."""
        logs = self._weighted_logs(self.of_content(user, query, phi))
        return np.asarray(portable.exp(np.maximum(logs, -60.0)))

    def _relevance(self, query: Array, m: Measures) -> Array:
        """Share of what the query asks for in the text's mix of topics; 1 for a text on its likeliest topic alone."""
        asked = query_topics(query)
        return self._floored(np.minimum(_inner(asked, m.topic) / asked.max(axis=-1), 1.0))

    def fit(self, user: Users, m: Measures) -> dict[str, Array]:
        """Domain, level, specificity and style of what was measured, for users: all that no query changes."""
        c = self.config
        level = (m.level - user.expertise) / c.level_width
        specificity = (m.specificity - user.specificity) / c.specificity_width
        overlap = np.minimum(user.domains, m.domain)
        return {
            "domain": self._floored(np.minimum(_inner(overlap, np.ones(len(DOMAINS))), 1.0)),
            "level": _exp(-0.5 * level * level),
            "specificity": _exp(-0.5 * specificity * specificity),
            "style": self._floored(np.minimum(_inner(user.styles, m.style) / np.max(user.styles, axis=-1), 1.0)),
        }

    def _floored(self, x: Array) -> Array:
        return np.asarray(self.config.floor + (1.0 - self.config.floor) * x)

    def _weighted_logs(self, parts: dict[str, Array]) -> Array:
        total: Any = 0.0
        for name, value in parts.items():
            total = total + getattr(self.config, name) * portable.log(np.asarray(value, dtype=np.float64))
        return np.asarray(total)

    # -- tables for select --------------------------------------------------------------------------------------

    def user_table(self, users: Users, items: Sequence[Measured]) -> Array:
        """Log of everything but relevance, by user and item, ``(U, N)``; -60 for an item that earns nothing."""
        phi = np.stack([item.phi for item in items])
        several = Users(
            users.domains[:, None], users.expertise[:, None], users.specificity[:, None], users.styles[:, None]
        )
        worth = np.array([item.validity * item.guard for item in items])
        logs = np.where(worth > 0.0, portable.log(np.maximum(worth, 1e-26)), -60.0)
        return np.maximum(logs + self._weighted_logs(self.fit(several, measures(phi))), -60.0)

    def query_table(self, queries: Array, items: Sequence[Measured]) -> Array:
        """Log of relevance, weighted, by query and item, ``(Q, N)``.

        mu of user k's item n at query q is ``portable.exp(max(user_table[k, n] + query_table[q, n], -60))``.

        Args:
            queries: ``(Q, 17)``.
            items: The items.
        """
        phi = np.stack([item.phi for item in items])
        found = self._relevance(np.asarray(queries)[:, None], measures(phi))
        return np.asarray(self.config.relevance * portable.log(found))

    # -- the best there could be --------------------------------------------------------------------------------

    def optimum(self, user: Users, query: Array) -> tuple[Array, Array]:
        """The largest mu of any content, and content that reaches it.

        Each part is at most 1 by its definition, and content that measures exactly as the user wishes has every part
        at 1; that content (the inverse of `measures`) lies inside the unit ball, having length below 0.85. So for
        ``synthesize`` the value is exact. For ``write`` it is an upper bound, as no words need measure exactly so.

        Returns:
            mu ``(...)``, and phi ``(..., 17)``.
        """
        topic = np.eye(len(TOPICS))[np.argmax(query_topics(query), axis=-1)]
        style = np.eye(len(STYLES))[np.argmax(user.styles, axis=-1)]
        shape = np.broadcast_shapes(topic.shape[:-1], style.shape[:-1])
        wished = Measures(
            np.broadcast_to(user.domains, (*shape, len(DOMAINS))),
            np.broadcast_to(topic, (*shape, len(TOPICS))),
            np.broadcast_to(user.expertise, shape),
            np.broadcast_to(user.specificity, shape),
            np.broadcast_to(style, (*shape, len(STYLES))),
        )
        phi = content_of(wished)
        return self.mean_of_content(user, query, phi), phi


def _inner(a: Array, b: Array) -> Array:
    # added in order: the same bits everywhere
    total = a[..., 0] * b[..., 0]
    for k in range(1, b.shape[-1]):
        total = total + a[..., k] * b[..., k]
    return np.asarray(total)


def _exp(x: Any) -> Array:
    if np.ndim(x) == 0:
        return np.asarray(portable.exp(max(float(x), -60.0)))
    return np.asarray(portable.exp(np.maximum(np.asarray(x, dtype=np.float64), -60.0)))
