"""The hidden users of the text environments: what they want, which agents never see."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from hare_gym.text.corpus import DOMAINS, STYLES

Array = NDArray[np.float64]

_MAIN_SHARE = (0.55, 0.85)
_STYLE_SHARE = (0.55, 0.85)


@dataclass(frozen=True, eq=False)
class Users:
    """U users, or in a batch of worlds any leading axes.

    Attributes:
        domains: w, the mix of domains that each works in, ``(U, 8)``, sum one: a main one with 0.55 to 0.85, a second
            with the rest.
        expertise: e, ``(U,)``, 0 beginner to 1 expert.
        specificity: s, ``(U,)``, 0 principles that hold anywhere to 1 commands and numbers.
        styles: a, ``(U, 4)``, sum one: a preferred one with 0.55 to 0.85, the others share the rest.
    """

    domains: Array
    expertise: Array
    specificity: Array
    styles: Array

    def __len__(self) -> int:
        return len(self.expertise)

    def __getitem__(self, index: int | slice | NDArray[np.int64]) -> Users:
        """Some of the users; one, without the leading axis, for an integer."""
        return Users(self.domains[index], self.expertise[index], self.specificity[index], self.styles[index])

    @classmethod
    def draw(cls, rng: np.random.Generator, num_users: int) -> Users:
        """Draws users; neighbours differ in their main domain, so that few users still cover many."""
        U = num_users
        order = np.concatenate([rng.permutation(len(DOMAINS)) for _ in range(-(-U // len(DOMAINS)))])[:U]
        second = (order + rng.integers(1, len(DOMAINS), U)) % len(DOMAINS)
        share = rng.uniform(*_MAIN_SHARE, U)
        w = np.zeros((U, len(DOMAINS)))
        w[np.arange(U), order], w[np.arange(U), second] = share, 1.0 - share
        return cls(w, rng.random(U), rng.random(U), _styles(rng, U))

    def drifted(self, rng: np.random.Generator, step: float) -> Users:
        """A small move of every attribute: expertise and specificity walk (reflected at 0 and 1), the mixes blend.

        Args:
            rng: For the direction; the same numbers are drawn whatever ``step``.
            step: How far, 0 for nowhere and 1 for a new user.
        """
        other = Users.draw(rng, len(self))
        walk = rng.standard_normal((2, len(self))) * step
        return replace(
            self,
            domains=(1.0 - step) * self.domains + step * other.domains,
            styles=(1.0 - step) * self.styles + step * other.styles,
            expertise=_reflected(self.expertise + walk[0]),
            specificity=_reflected(self.specificity + walk[1]),
        )

    def attributes(self) -> dict[str, Array]:
        """What a probe of an agent's user state should find, by name; ``(U,)`` or ``(U, k)`` each."""
        return {
            "domain": self.domains,
            "expertise": self.expertise,
            "specificity": self.specificity,
            "style": self.styles,
        }


def _styles(rng: np.random.Generator, U: int) -> Array:
    preferred = rng.integers(0, len(STYLES), U)
    share = rng.uniform(*_STYLE_SHARE, U)
    a = rng.dirichlet(np.ones(len(STYLES) - 1), U) * (1.0 - share)[:, None]
    return np.stack([np.insert(row, k, top) for row, k, top in zip(a, preferred, share, strict=True)])


def _reflected(x: Array) -> Array:
    x = np.abs(x) % 2.0
    return np.where(x > 1.0, 2.0 - x, x)
