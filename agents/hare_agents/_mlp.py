"""The network of the neural agents, with its replay and its training, in NumPy.

One hidden layer over the features of the joint linear agents. At this size a framework's overhead per call is several
times the arithmetic, and the gradient of one hidden layer is four products; the tests hold it against autograd.
Nothing global is touched: no generator, no thread count.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from hare_agents._content import take
from hare_agents.items import Array, Mask, round_pool
from hare_gym.contract import Observation, SearchSpace, TaskSpec
from hare_gym.errors import ConfigError, DataError

Float32: TypeAlias = NDArray[np.float32]
Batch: TypeAlias = tuple[Float32, NDArray[np.int64], Float32, Float32]
"""Contexts ``(B, q)``, users ``(B,)``, contents with a one in front ``(B, 1 + d)``, targets ``(B,)``."""

_BETA1, _BETA2, _EPSILON = 0.9, 0.999, 1e-8
_ROWS = 1024


@dataclass(frozen=True)
class MlpConfig:
    """The network's hyperparameters, which every neural agent has: customary values, tuned on nothing here.

    Attributes:
        width: Hidden units, m; even, since they start in pairs that cancel. The usual 100 of the papers.
        learning_rate: Of Adam (Kingma and Ba 2015), divided by √m: f's factor √m makes a step of a parameter count
            √m times, so this is a learning rate in the usual scale of networks.
        regularization: lambda. The loss is the mean over the replay of (f - r)²/2, plus
            m lambda |theta - theta_0|² / (2 n) for a replay of n rounds (Zhou et al. 2020, Algorithm 2).
        train_every: Rounds between trainings.
        train_steps: Minibatch steps in a training.
        batch_size: Rounds in a minibatch, drawn with replacement.
        buffer_size: Rounds that the replay keeps; the oldest give way.
    """

    width: int = field(default=100, metadata={"low": 2})
    learning_rate: float = field(default=1e-3, metadata={"above": 0})
    regularization: float = field(default=1.0, metadata={"above": 0})
    train_every: int = field(default=20, metadata={"low": 1})
    train_steps: int = field(default=20, metadata={"low": 1})
    batch_size: int = field(default=64, metadata={"low": 1})
    buffer_size: int = field(default=50_000, metadata={"low": 1})

    def __post_init__(self) -> None:
        if self.width % 2:
            raise ConfigError(f"width must be even, not {self.width}: hidden units start in pairs that cancel.")


MLP_SPACE: SearchSpace = {
    "width": {"type": "choice", "values": [32, 64, 100, 128]},
    "learning_rate": {"type": "float", "low": 1e-4, "high": 1e-2, "log": True},
    "regularization": {"type": "float", "low": 1e-2, "high": 10.0, "log": True},
    "train_steps": {"type": "choice", "values": [10, 20, 40]},
}
"""The network's part of an agent's search space."""


class Pass(NamedTuple):
    """N contents in one context, gone forward through the network.

    Attributes:
        c1: The context with a one in front, ``(1 + q,)``.
        user: The user's number.
        Y1: The contents with a one in front, ``(N, 1 + d)``.
        C: The first layer as it acts on [1; y] in this context, ``(1 + d, m)``.
        h: The hidden units before the rectifier, ``(N, m)``.
    """

    c1: Float32
    user: int
    Y1: Float32
    C: Float32
    h: Float32


class Network:
    """f(x, user, y) = √m w · relu(W₁ phi), phi = [[1, x]⊗[1, y], onehot(user)⊗[1, y]], without biases.

    The scale and the start are those of Zhou et al. (2020): entries of W₁ from N(0, 4/m), of w from
    N(0, 2/m), and units in pairs with opposite w, so that f starts at 0 everywhere. The columns of W₁ that belong to
    users start at 0 instead: a user who has not been met is the average one. A user's parameters, with their moments,
    take 12 (1 + d) m bytes of memory.

    Gradients here are those of f/√m, which is the form in which the papers' formulas use them (their g/√m).

    Attributes:
        theta: The parameters that all users share, float32 ``((1 + q)(1 + d) m + m,)``; `W` and `w` are views of it.
        W: ``(1 + q, 1 + d, m)``.
        w: ``(m,)``.
        U: Each user's own first layer, ``(num_users, 1 + d, m)``; no users for a network that is not told them.
    """

    def __init__(
        self, context_dim: int, content_dim: int, num_users: int, width: int, rng: np.random.Generator
    ) -> None:
        self.shape = (1 + context_dim, 1 + content_dim, width)
        half = width // 2
        first = rng.standard_normal((*self.shape[:2], half)) * math.sqrt(4.0 / width)
        last = rng.standard_normal(half) * math.sqrt(2.0 / width)
        self.theta: Float32 = np.concatenate(
            [np.concatenate([first, first], axis=-1).ravel(), last, -last], dtype=np.float32
        )
        self.W = self.theta[:-width].reshape(self.shape)
        self.w = self.theta[-width:]
        self.U: Float32 = np.zeros((num_users, *self.shape[1:]), dtype=np.float32)
        self.root_m = np.float32(math.sqrt(width))

    def forward(self, c: Array, user: int, Y1: Float32) -> Pass:
        """Passes contents ``(N, 1 + d)`` forward in the context ``(q,)`` of one user."""
        K, E, m = self.shape
        c1 = np.ones(K, dtype=np.float32)
        c1[1:] = c
        C = (c1 @ self.W.reshape(K, -1)).reshape(E, m)
        if len(self.U):
            C += self.U[user]
        return Pass(c1, user, Y1, C, Y1 @ C)

    def mean(self, run: Pass) -> Array:
        """f, float64 ``(N,)``."""
        return np.asarray(np.maximum(run.h, 0.0) @ (self.w * self.root_m), dtype=np.float64)

    def slope(self, run: Pass) -> Array:
        """The gradient of f with respect to the content, float64 ``(N, d)``."""
        return np.asarray(((run.h > 0.0) * (self.w * self.root_m)) @ run.C[1:].T, dtype=np.float64)

    def gradients(self, run: Pass) -> tuple[Array, Array]:
        """The gradient of f/√m for each content, float64.

        Returns:
            With respect to theta ``(N, P)``, and to the user's own U ``(N, (1 + d) m)``.
        """
        n = len(run.Y1)
        own = run.Y1[:, :, None] * ((run.h > 0.0) * self.w)[:, None, :]  # (N, 1 + d, m)
        first = run.c1[:, None, None] * own[:, None]  # (N, 1 + q, 1 + d, m)
        shared = np.concatenate([first.reshape(n, -1), np.maximum(run.h, 0.0)], axis=1, dtype=np.float64)
        return shared, own.reshape(n, -1).astype(np.float64)

    def pullback(self, run: Pass, shared: Array, own: Array) -> Array:
        """The gradient, with respect to each content, of its gradient's product with a fixed vector.

        That product is p · [1; y] with the p returned here: gradients are linear in [1; y] until a unit switches.

        Args:
            run: The contents.
            shared: The vectors' part for theta, ``(N, P)`` or ``(P,)`` for one vector.
            own: Their part for the user's own U, ``(N, (1 + d) m)`` or ``((1 + d) m,)``.

        Returns:
            p, float64 ``(N, 1 + d)``.
        """
        K, E, m = self.shape
        shared, own = np.atleast_2d(shared), np.atleast_2d(own)
        layer = np.tensordot(shared[:, :-m].reshape(-1, K, E, m), run.c1, axes=(1, 0)) + own.reshape(-1, E, m)
        active = run.h > 0.0
        through_first = np.vecdot(layer, (active * self.w)[:, None, :])
        return np.asarray(through_first + (active * shared[:, -m:]) @ run.C.T)

    def hidden(self, batch: Batch) -> tuple[Float32, Float32]:
        """A batch's shared features phi ``(B, (1 + q)(1 + d))``, and its units before the rectifier ``(B, m)``."""
        C, users, Y1, _ = batch
        K, E, m = self.shape
        C1: Float32 = np.ones((len(C), K), dtype=np.float32)
        C1[:, 1:] = C
        features: Float32 = (C1[:, :, None] * Y1[:, None, :]).reshape(len(C), -1)
        h: Float32 = features @ self.W.reshape(K * E, m)
        if len(self.U):
            h += (Y1[:, None, :] @ self.U[users])[:, 0]
        return features, h

    def loss_gradient(self, batch: Batch) -> tuple[float, Float32, NDArray[np.int64], Float32]:
        """The mean of (f - r)²/2 over a batch, and its gradient.

        Returns:
            The loss; the gradient with respect to theta ``(P,)``; the users in the batch ``(n,)``; and the gradient
            with respect to their U ``(n, 1 + d, m)``.
        """
        _, users, Y1, r = batch
        m = self.shape[2]
        features, h = self.hidden(batch)
        relu = np.maximum(h, 0.0)
        error = relu @ (self.w * self.root_m) - r
        scaled = error * (self.root_m / np.float32(len(r)))
        delta = (h > 0.0) * (scaled[:, None] * self.w)  # (B, m)
        gradient = np.empty_like(self.theta)
        np.matmul(features.T, delta, out=gradient[:-m].reshape(-1, m))
        np.matmul(scaled, relu, out=gradient[-m:])
        loss = 0.5 * float(error @ error) / len(r)
        if not len(self.U):
            return loss, gradient, users[:0], self.U
        present, row = np.unique(users, return_inverse=True)
        member = np.zeros((len(present), len(users)), dtype=np.float32)
        member[row, np.arange(len(users))] = 1.0
        own = member @ (Y1[:, :, None] * delta[:, None, :]).reshape(len(users), -1)
        return loss, gradient, present, own.reshape(-1, *self.shape[1:])


class Replay:
    """The last ``capacity`` rounds, in arrays that grow by doubling until then."""

    def __init__(self, context_dim: int, content_dim: int, capacity: int) -> None:
        self.capacity = capacity
        self.count = 0
        self.x: Float32 = np.empty((0, context_dim), dtype=np.float32)
        self.user: NDArray[np.int64] = np.empty(0, dtype=np.int64)
        self.Y1: Float32 = np.empty((0, 1 + content_dim), dtype=np.float32)
        self.r: Float32 = np.empty(0, dtype=np.float32)
        self._grow(min(capacity, 256))

    def __len__(self) -> int:
        return min(self.count, self.capacity)

    def _grow(self, size: int) -> None:
        for name in ("x", "user", "Y1", "r"):
            old = getattr(self, name)
            new = np.ones((size, *old.shape[1:]), dtype=old.dtype)
            new[: len(old)] = old
            setattr(self, name, new)

    def add(self, x: Array, user: int, y: Array, r: float) -> None:
        """Keeps one round.

        Raises:
            DataError: The query or the content is not finite; nothing has been kept then.
        """
        if not (np.isfinite(x).all() and np.isfinite(y).all()):
            raise DataError("The query or the content holds NaN or infinity: features must be finite numbers.")
        row = self.count % self.capacity
        if row == len(self.r):
            self._grow(min(2 * row, self.capacity))
        self.x[row], self.user[row], self.Y1[row, 1:], self.r[row] = x, user, y, r
        self.count += 1

    def batch(self, rows: NDArray[np.integer[Any]] | slice) -> Batch:
        """The rounds in ``rows``."""
        return self.x[rows], self.user[rows], self.Y1[rows], self.r[rows]

    def state(self) -> dict[str, NDArray[Any]]:
        """The rounds that are kept, and how many there were."""
        kept = slice(0, len(self))
        names = ("x", "user", "Y1", "r")
        return {"count": np.array(self.count)} | {name: getattr(self, name)[kept].copy() for name in names}

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Takes back what `state` gave; raises as `take` does."""
        self.count = int(take(state, "count", np.array(0)))
        n = len(self)
        if n > len(self.r):
            self._grow(n)
        for name in ("x", "user", "Y1", "r"):
            array = getattr(self, name)
            array[:n] = take(state, name, array[:n])


class Learner:
    """A `Network`, its `Replay`, and Adam. A user's own parameters and moments move only when the user is in a batch.

    Attributes:
        network: The network.
        replay: What it learns from.
        loss: The mean loss of the last training's minibatches; 0 before the first.
    """

    def __init__(self, spec: TaskSpec, config: MlpConfig, rng: np.random.Generator, user_dim: int = 0) -> None:
        """With ``user_dim`` the context is [x, a vector of the user] and users have no parameters of their own."""
        self.config = config
        users = 0 if user_dim else spec.num_users
        self.network = Network(spec.query_dim + user_dim, spec.content_dim, users, config.width, rng)
        self.replay = Replay(spec.query_dim, spec.content_dim, config.buffer_size)
        self.loss = 0.0
        self._theta_0 = self.network.theta.copy()
        self._moments = np.zeros((2, *self._theta_0.shape), dtype=np.float32)
        self._own_moments = np.zeros((2, *self.network.U.shape), dtype=np.float32)
        self._steps = 0

    @property
    def trained(self) -> bool:
        """Whether there has been a training; until then f is 0 up to rounding."""
        return self._steps > 0

    def keep(self, observation: Observation, y: Array, r: float) -> None:
        """Puts one round, in which content ``y`` earned ``r``, into the replay.

        Raises:
            DataError: As for `Replay.add`.
        """
        self.replay.add(observation["query"], int(observation["user"]), y, r)

    def train_when_due(
        self, rng: np.random.Generator, batch: Callable[[NDArray[np.int64]], Batch] | None = None
    ) -> bool:
        """Trains every ``train_every`` rounds.

        Args:
            rng: Draws the minibatches.
            batch: Makes a minibatch of rows of the replay; by default, the rows as they are kept.

        Returns:
            Whether the network has been trained.
        """
        if self.replay.count % self.config.train_every:
            return False
        rows = rng.integers(len(self.replay), size=(self.config.train_steps, self.config.batch_size))
        make = batch or self.replay.batch
        self.loss = sum(self._step(make(one)) for one in rows) / len(rows)
        return True

    def _step(self, batch: Batch) -> float:
        network = self.network
        loss, gradient, users, own = network.loss_gradient(batch)
        decay = np.float32(network.shape[2] * self.config.regularization / len(self.replay))
        self._steps += 1
        gradient += decay * (network.theta - self._theta_0)
        network.theta -= self._adam(gradient, self._moments)
        if len(users):
            rows = network.U[users]
            own += decay * rows
            moments = self._own_moments[:, users]
            network.U[users] = rows - self._adam(own, moments)
            self._own_moments[:, users] = moments
        return loss

    def _adam(self, gradient: Float32, moments: Float32) -> Float32:
        """Adam's step; moves the moments in place and uses ``gradient`` as room for its result."""
        first, second = moments
        first *= np.float32(_BETA1)
        first += np.float32(1.0 - _BETA1) * gradient
        gradient *= gradient
        gradient *= np.float32(1.0 - _BETA2)
        second *= np.float32(_BETA2)
        second += gradient
        np.sqrt(second, out=gradient)
        # the second moment's bias correction stands in the two scalars instead of in another pass
        unbias = math.sqrt(1.0 - _BETA2**self._steps)
        rate = self.config.learning_rate / math.sqrt(self.config.width) / (1.0 - _BETA1**self._steps)
        gradient += np.float32(_EPSILON * unbias)
        np.divide(first, gradient, out=gradient)
        gradient *= np.float32(rate * unbias)
        return gradient

    def hidden_units(self) -> Array:
        """The rectified hidden units of every round in the replay, float64 ``(n, m)``."""
        blocks = []
        for start in range(0, len(self.replay), _ROWS):
            _, h = self.network.hidden(self.replay.batch(slice(start, min(start + _ROWS, len(self.replay)))))
            blocks.append(np.maximum(h, 0.0))
        return np.concatenate(blocks, dtype=np.float64)

    def _arrays(self) -> dict[str, NDArray[Any]]:
        return {
            "theta": self.network.theta,
            "theta_0": self._theta_0,
            "moments": self._moments,
            "own": self.network.U,
            "own_moments": self._own_moments,
        }

    def state(self) -> dict[str, NDArray[Any]]:
        """Parameters, start, moments, replay and counters."""
        return (
            {name: array.copy() for name, array in self._arrays().items()}
            | {f"replay_{name}": array for name, array in self.replay.state().items()}
            | {"steps": np.array(self._steps), "loss": np.array(self.loss)}
        )

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Takes back what `state` gave; raises as `take` does."""
        for name, array in self._arrays().items():
            array[...] = take(state, name, array)
        self.replay.load_state(
            {name.removeprefix("replay_"): array for name, array in state.items() if name.startswith("replay_")}
        )
        self._steps = int(take(state, "steps", np.array(0)))
        self.loss = float(take(state, "loss", np.array(0.0)))


class Contents:
    """The items of a round as the network reads them; those of a pool that never changes are converted once."""

    def __init__(self, spec: TaskSpec) -> None:
        self._spec = spec
        self._fixed = None if spec.pool is None else with_one32(spec.pool)

    def of_round(self, observation: Observation) -> tuple[Array, Float32, Mask | None]:
        """The items ``(N, d)``, ``[1; y]`` for each in float32 ``(N, 1 + d)``, and which can be used."""
        items, usable = round_pool(self._spec, observation)
        return items, with_one32(items) if self._fixed is None else self._fixed, usable


def with_one32(items: Array) -> Float32:
    """``[1; y]`` for each content y, float32: ``(N, d)`` to ``(N, 1 + d)``."""
    Y1 = np.ones((len(items), 1 + items.shape[1]), dtype=np.float32)
    Y1[:, 1:] = items
    return Y1
