"""The engine of the text environments: hidden users say what they need, and an agent answers with an item, a content
vector or a text.

A domain (`hare_gym.text.domain`) says what texts, needs, users and rewards are; this makes environments of it::

    class HareRecipe(TextEnvironment):
        domain_class = Recipes


    class HareRecipeVector(TextVectorEnvironment):
        domain_class = Recipes

`Worlds` draws users, rounds and noise for both, with the lanes along the last axis, so that one lane and a thousand
give the same bits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Generic, TypeVar

import gymnasium as gym
import numpy as np
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from hare_gym import portable
from hare_gym.config import configure
from hare_gym.contract import ActionMode, TaskSpec, action_space, observation_space, sanitise
from hare_gym.environment import Environment, check_mode, content_vector, item_index, lane_count, lane_generators
from hare_gym.envs.noise import beta, beta_batch, stream
from hare_gym.errors import ActionError
from hare_gym.text.domain import NEED_UNIFORMS, TEXT_LENGTH, Content, Domain, TextConfig, stacked, taken
from hare_gym.text.view import Round

Array = NDArray[np.float64]
Indices = NDArray[np.int64]
U = TypeVar("U")

MODES: tuple[ActionMode, ...] = ("select", "synthesize", "write")

# Rounds of randomness drawn at once, and the numbers of a round; part of what a seed means, so they never change.
_BLOCK = 128
_NORMALS, _UNIFORMS = 4, 1 + NEED_UNIFORMS + 6


class Worlds(Generic[U]):
    """The users of W lanes, and their rounds to come. Users have P populations: one a lane, or one for all."""

    def __init__(self, config: TextConfig, domain: Domain[U, Any], mode: ActionMode) -> None:
        self.config, self.domain, self.mode = config, domain, mode
        self.early_users = max(1, config.num_users - int(config.late_users * config.num_users))
        self.late_round = int(config.late_from * config.horizon)
        self.original: list[U] = []

    def draw_worlds(self, rngs: Sequence[np.random.Generator], shared: bool = False) -> None:
        """Draws the users, world by world."""
        self.original = [self.domain.draw_users(rng, self.config.num_users) for rng in (rngs[:1] if shared else rngs)]
        self._live_among(self.original)
        self._moved = False

    def start_session(self, rngs: Sequence[np.random.Generator]) -> None:
        """Forgets the rounds drawn so far and puts every user back to what they were."""
        # the users' moves have streams of their own, so that no knob shifts the queries or the noise
        self.rngs, self.move_rngs = ([stream(int(rng.integers(2**63))) for rng in rngs] for _ in range(2))
        if self._moved:
            self._live_among(self.original)
        self._moved = False
        W, P = len(rngs), len(self.original)
        self.population = np.arange(W) if P > 1 else np.zeros(W, dtype=np.int64)
        self._normals, self._uniforms = np.empty((W, _BLOCK, _NORMALS)), np.empty((W, _BLOCK, _UNIFORMS))
        self._block_start, self._chunk_start, self._chunk_end = -_BLOCK, 0, 0

    def _live_among(self, users: list[U]) -> None:
        self.current = users
        self.users = stacked(users)  # (P, U)
        self.judge = self.domain.judge(users, self.mode)
        self._said: dict[int, str] = {}

    def prepare(self, t: int) -> int:
        """Makes round t ready; returns its place in the chunk's arrays."""
        if t == self._chunk_end:
            c = self.config
            if t == self._block_start + _BLOCK:
                for rng, normals, uniforms in zip(self.rngs, self._normals, self._uniforms, strict=True):
                    rng.standard_normal(out=normals)
                    rng.random(out=uniforms)
                self._block_start = t
            end = min(self._block_start + _BLOCK, c.horizon)
            if c.drift:
                if t and t % c.num_users == 0:
                    moves = zip(self.current, self.move_rngs, strict=False)
                    self._live_among([self.domain.drifted(users, rng, c.drift) for users, rng in moves])
                    self._moved = True
                end = min(end, t - t % c.num_users + c.num_users)
            self._compute_chunk(t, end)
        return t - self._chunk_start

    def _compute_chunk(self, start: int, end: int) -> None:
        """Everything about rounds ``start`` to ``end`` that does not depend on the action."""
        c, domain = self.config, self.domain
        part = slice(start - self._block_start, end - self._block_start)
        uniforms = np.ascontiguousarray(self._uniforms[:, part].transpose(2, 1, 0))  # (11, L, W)
        arrived = np.where(np.arange(start, end) < self.late_round, self.early_users, c.num_users)[:, None]
        self.user = (uniforms[0] * arrived).astype(np.int64)  # (L, W)
        population = np.broadcast_to(self.population, self.user.shape)
        self.who = taken(self.users, (population, self.user))  # (L, W)
        self.need = domain.draw_needs(self.who, uniforms[1 : 1 + NEED_UNIFORMS])  # (L, W)
        self.gamma_normals = np.ascontiguousarray(self._normals[:, part].transpose(2, 1, 0))  # (4, L, W)
        self.gamma_uniforms = uniforms[1 + NEED_UNIFORMS :]
        self.query = domain.query_vectors(self.who, self.need)  # (L, W, query_dim)
        self.judge.prepare(population, self.user, self.need)
        self.catalogue_oracle = self.judge.best_mean  # (L, W)
        self.oracle = domain.oracle(self.who, self.need)  # (L, W)
        # one number for each thing that can be said: the need, and who says it where that makes a difference
        speech = self.need
        if domain.personal:
            speech = (population * c.num_users + self.user) * domain.num_needs + self.need
        self._speech: list[list[int]] = speech.tolist()
        self._chunk_start, self._chunk_end = start, end

    def said(self, i: int) -> list[str]:
        """What is said in each lane of round i, W texts."""
        numbers, said = self._speech[i], self._said
        try:
            return list(map(said.__getitem__, numbers))
        except KeyError:
            for lane, number in enumerate(numbers):
                if number not in said:
                    words = self.domain.query_text(self.user_of(i, lane), int(self.need[i, lane]))
                    said[number] = sanitise(words, TEXT_LENGTH)
            return [said[number] for number in numbers]

    # -- judging, round i of the chunk --------------------------------------------------------------------------

    def user_of(self, i: int, lane: int) -> U:
        """The hidden user of a lane."""
        return taken(self.who, (i, lane))

    def of_contents(self, i: int, phi: Array) -> tuple[Array, dict[str, Array]]:
        """Means and parts of a content vector in each lane, ``(W, content_dim)`` to ``(W,)`` each."""
        content = Content(phi, np.ones(len(phi)), None)
        parts = self.domain.parts_of(taken(self.who, i), self.need[i], content)
        found = {name: np.array(np.broadcast_to(parts[name], len(phi))) for name in self.domain.parts}
        return self.domain.combine(found), found

    def of_text(self, i: int, lane: int, text: str) -> tuple[float, dict[str, float]]:
        """Mean and parts of a text in one lane."""
        domain, need = self.domain, int(self.need[i, lane])
        parts = domain.parts_of_text(self.user_of(i, lane), need, domain.shown(text), self.said(i)[lane])
        return float(domain.combine(parts)), parts  # type: ignore[arg-type]

    def problems(self, i: int, lane: int, text: str) -> str:
        """What is wrong with a text for whom it is shown to, in words; empty if nothing is."""
        domain, need = self.domain, int(self.need[i, lane])
        found = domain.problems_of(self.user_of(i, lane), need, domain.shown(text), self.said(i)[lane])
        return "; ".join(found)

    def oracle_width(self, i: int, lane: int) -> float:
        """How far a text that exists is below the bound: the best item's, shown as it is."""
        best = self.domain.texts[int(self.judge.best_item[i, lane])]
        return float(self.oracle[i, lane]) - self.of_text(i, lane, best)[0]


class TextEnvironment(Environment):
    """One world of a domain. A subclass sets ``domain_class`` and says in its docstring what is played.

    Attributes:
        domain_class: The domain.
        domain: What the domain's knobs made of it.
    """

    modes = MODES
    domain_class: ClassVar[type[Domain[Any, Any]]]
    domain: Domain[Any, Any]

    def __init__(self, action_mode: str | None = None, render_mode: str | None = None, **knobs: Any) -> None:
        super().__init__(action_mode, render_mode)
        self.config: Any = configure(self.domain_class.config_class, knobs, type(self).__name__)
        self.domain = self.domain_class.load(self.config)
        self._worlds: Worlds[Any] = Worlds(self.config, self.domain, self.action_mode)
        self._set_task(task_of(self.domain, self.config, knobs, self.action_mode))

    @property
    def measures(self) -> tuple[str, ...]:
        """What of `info` is summed over a session beside the reward, in ``write``; see `breaches`."""
        return BREACHES if self.action_mode == "write" and self.domain.harm else ()

    @property
    def users(self) -> Any:
        """The hidden users as they are now. For oracles, tests and metrics; agents never see them."""
        return self._worlds.current[0]

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Draws the users (with a seed, or the first time) and starts a session with them."""
        super().reset(seed=seed)
        if seed is not None or not self._worlds.original:
            self._worlds.draw_worlds([self.np_random])
        self._worlds.start_session([self.np_random])
        self._t = 0
        self._lists_of = -1
        self._start_rendering()
        self._shown_round: Round | None = None
        self._prepare()
        return self._observation(), {}

    def _prepare(self) -> None:
        worlds = self._worlds
        self._i = worlds.prepare(self._t)
        if self._lists_of != worlds._chunk_start:
            # one lane at a time is quicker in Python numbers than in arrays of length one
            self._lists_of = worlds._chunk_start
            self._users: list[int] = worlds.user[:, 0].tolist()
            self._queries: list[Array] = list(worlds.query[:, 0])
            self._oracles: list[float] = worlds.oracle[:, 0].tolist()
            self._catalogue_oracles: list[float] = worlds.catalogue_oracle[:, 0].tolist()
            self._z: list[list[float]] = worlds.gamma_normals[:, :, 0].T.tolist()
            self._u: list[list[float]] = worlds.gamma_uniforms[:, :, 0].T.tolist()

    def _observation(self) -> dict[str, Any]:
        return {
            "query": self._queries[self._i].copy(),
            "user": np.int64(self._users[self._i]),
            "query_text": self._worlds.said(self._i)[0],
        }

    def step(self, action: Any) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """Plays one round.

        Raises:
            ActionError: An action of the wrong type, shape, dtype, range or length; the round is not spent.
        """
        worlds, i = self._worlds, self._i
        extra: dict[str, Any] = {}
        if self.action_mode == "select":
            action = item_index(action, self.task.num_items)
            expected, parts = worlds.judge.of_item(i, action)
        elif self.action_mode == "synthesize":
            phi = np.array(content_vector(action, self.task.content_dim))
            mean, found = worlds.of_contents(i, phi[None])
            expected, parts = float(mean[0]), {name: float(value[0]) for name, value in found.items()}
        else:
            action = checked_text(action)
            expected, parts = worlds.of_text(i, 0, action)
            extra = {"oracle_width": worlds.oracle_width(i, 0), "problems": worlds.problems(i, 0, action)}
            extra |= breaches(self.domain, parts)
        reward = beta(expected, self.config.concentration, self._z[i], self._u[i])
        info = self._info(expected, self._oracles[i], self._catalogue_oracles[i], **parts, **extra)
        return self._end_round(self._users[i], action, reward, info)

    def optimal_action(self) -> Any:
        """The best item's index, the best content, or the best text known."""
        worlds, i, domain = self._worlds, self._i, self.domain
        best = int(worlds.judge.best_item[i, 0])
        if self.action_mode == "select":
            return best
        user, need = worlds.user_of(i, 0), int(worlds.need[i, 0])
        if self.action_mode == "synthesize":
            return domain.optimum(user, np.asarray(need)).astype(np.float32)
        texts = [domain.texts[best]]
        written = domain.write(user, need, worlds.said(i)[0])
        if written is not None:
            texts.append(sanitise(written, TEXT_LENGTH))
        return max(texts, key=lambda text: worlds.of_text(i, 0, text)[0])

    # -- rendering ----------------------------------------------------------------------------------------------

    def _note_round(self, user: int, action: Any, reward: float, info: dict[str, Any]) -> None:
        if self.render_mode is None:
            return
        domain, worlds, i = self.domain, self._worlds, self._i
        item: int | None = None
        read: Any = None
        title = ""
        if self.action_mode == "select":
            item, read = action, domain.items[action]
        elif self.action_mode == "write":
            read = domain.shown(action)
        if read is not None:
            title = domain.title(read)
        best = domain.items[int(worlds.judge.best_item[i, 0])]
        self._shown_round = Round(
            query=worlds.said(i)[0],
            query_vector=worlds.query[i, 0],
            need=int(worlds.need[i, 0]),
            user=user,
            hidden=worlds.user_of(i, 0),
            item=item,
            best=best,
            best_title=domain.title(best),
            read=read,
            title=title,
            content=np.array(content_vector(action, self.task.content_dim)) if read is None else read.phi,
        )
        super()._note_round(user, title if self.action_mode == "write" else action, reward, info)

    def render(self) -> Any:
        """The last round for a person to read (``ansi``), or a picture of the session (``rgb_array``)."""
        if self.render_mode == "ansi" and self._shown_round is not None:
            return self.domain.show(self.task, self._history, self._last_round, self._shown_round)
        return super().render()


class TextVectorEnvironment(gym.vector.VectorEnv[dict[str, Any], Any, Any]):
    """Many worlds of a domain in lockstep, in NumPy: lane i with ``seed + i`` gives the single environment's bits.

    ``gymnasium.make_vec(id, num_envs=64)`` makes it. All sessions have one horizon and end together; the step after
    that starts the next session (``AutoresetMode.NEXT_STEP``).

    With ``shared_world=True`` every lane has the users of lane 0, with its own needs and luck: one agent serving many
    users at once. Under ``drift`` they then move alike in all lanes.

    Attributes:
        domain_class: The domain.
        domain: What the domain's knobs made of it.
    """

    metadata = {"render_modes": [], "autoreset_mode": gym.vector.AutoresetMode.NEXT_STEP}
    domain_class: ClassVar[type[Domain[Any, Any]]]
    domain: Domain[Any, Any]

    def __init__(
        self, num_envs: int = 1, action_mode: str | None = None, shared_world: bool = False, **knobs: Any
    ) -> None:
        knobs.pop("render_mode", None)
        owner = type(self).__name__.removesuffix("Vector")
        self.num_envs = lane_count(num_envs)
        self.config: Any = configure(self.domain_class.config_class, knobs, owner)
        self.action_mode: ActionMode = check_mode(owner, MODES, action_mode)
        self.shared_world = shared_world
        self.domain = self.domain_class.load(self.config)
        self._worlds: Worlds[Any] = Worlds(self.config, self.domain, self.action_mode)
        self.task = task_of(self.domain, self.config, knobs, self.action_mode)
        self.single_observation_space = observation_space(self.task)
        self.single_action_space = action_space(self.task)
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        self._rngs: list[np.random.Generator] = []

    @property
    def measures(self) -> tuple[str, ...]:
        """What of `info` is summed over a session beside the reward, in ``write``; see `breaches`."""
        return BREACHES if self.action_mode == "write" and self.domain.harm else ()

    def users_of(self, lane: int) -> Any:
        """The hidden users of a lane as they are now. Agents never see them."""
        return self._worlds.current[int(self._worlds.population[lane])]

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Draws the users (with a seed, or the first time) and starts a session in every lane."""
        if seed is not None or not self._rngs:
            self._rngs = lane_generators(seed, self.num_envs)
            self._worlds.draw_worlds(self._rngs, self.shared_world)
        self._worlds.start_session(self._rngs)
        self._t = 0
        self._i = self._worlds.prepare(0)
        return self._observation(), {}

    def _observation(self) -> dict[str, Any]:
        return {
            "query": self._worlds.query[self._i].copy(),
            "user": self._worlds.user[self._i].copy(),
            "query_text": tuple(self._worlds.said(self._i)),
        }

    def step(
        self, actions: Any
    ) -> tuple[dict[str, Any], Array, NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        """Plays one round in every lane.

        Raises:
            ActionError: Actions of the wrong type, shape, dtype, range or length; the round is not spent.
        """
        none = np.zeros(self.num_envs, dtype=np.bool_)
        if self._t >= self.config.horizon:
            return self.reset()[0], np.zeros(self.num_envs), none, none.copy(), {}
        worlds, i = self._worlds, self._i
        expected, parts = self._judge(actions)
        reward = beta_batch(
            expected, self.config.concentration, worlds.gamma_normals[:, i], worlds.gamma_uniforms[:, i]
        )
        oracle, catalogue = worlds.oracle[i].copy(), worlds.catalogue_oracle[i].copy()
        info: dict[str, Any] = {
            "expected_reward": expected,
            "oracle_reward": oracle,
            "catalogue_oracle_reward": catalogue,
            "regret": (catalogue if self.action_mode == "select" else oracle) - expected,
            **parts,
        }
        info |= {f"_{key}": np.ones(self.num_envs, dtype=np.bool_) for key in list(info)}
        self._t += 1
        truncated = np.full(self.num_envs, self._t >= self.config.horizon)
        if self._t < self.config.horizon:
            self._i = worlds.prepare(self._t)
        return self._observation(), reward, none, truncated, info

    def _judge(self, actions: Any) -> tuple[Array, dict[str, NDArray[Any]]]:
        """The means of what the actions show ``(W,)``, and what else goes into `info`."""
        worlds, i, W, N = self._worlds, self._i, self.num_envs, self.task.num_items
        if self.action_mode == "write":
            if not isinstance(actions, list | tuple | np.ndarray) or len(actions) != W:
                raise ActionError(f"Write actions must be {W} texts, not {type(actions).__name__}.")
            texts = [checked_text(action) for action in actions]
            found = [worlds.of_text(i, lane, text) for lane, text in enumerate(texts)]
            parts: dict[str, NDArray[Any]] = {
                name: np.array([each[name] for _, each in found]) for name in self.domain.parts
            }
            parts["oracle_width"] = np.array([worlds.oracle_width(i, lane) for lane in range(W)])
            problems = [worlds.problems(i, lane, text) for lane, text in enumerate(texts)]
            parts["problems"] = np.array(problems, dtype=np.object_)
            broken = [breaches(self.domain, each) for _, each in found]
            parts |= {name: np.array([each[name] for each in broken]) for name in broken[0]}
            return np.array([mean for mean, _ in found]), parts
        actions = np.asarray(actions)
        if self.action_mode == "select":
            if actions.shape != (W,) or not np.issubdtype(actions.dtype, np.integer):
                raise ActionError(
                    f"Select actions must be {W} integers, not an array of shape {actions.shape} "
                    f"and dtype {actions.dtype}."
                )
            if actions.min() < 0 or actions.max() >= N:
                bad = int(actions[(actions < 0) | (actions >= N)][0])
                raise ActionError(f"Item {bad} is not in the pool of {N}: use 0 to {N - 1}.")
            return worlds.judge.of_items(i, actions)
        d = self.task.content_dim
        if actions.shape != (W, d) or actions.dtype not in (np.float32, np.float64):
            raise ActionError(
                f"Synthesize actions must be float32 of shape ({W}, {d}), not {actions.dtype} "
                f"of shape {actions.shape}."
            )
        y = actions.T.astype(np.float64)
        length = np.sqrt(portable.dot(y, y))
        if not np.isfinite(length).all():
            raise ActionError("A synthesize action must be finite; this one holds NaN or infinity.")
        y = np.where(length > 1.0, y / np.maximum(length, 1.0), y)
        return worlds.of_contents(i, np.ascontiguousarray(y.T))


BREACHES = ("invalid", "harmful")


def breaches(domain: Domain[Any, Any], parts: Mapping[str, float]) -> dict[str, float]:
    """Whether a text breaks a rule of its domain, and whether it would hurt its user: 0 or 1, by `BREACHES`.

    Empty for a domain in which no text can hurt.
    """
    if not domain.harm:
        return {}
    return {"invalid": float(parts["validity"] < 1.0), "harmful": float(parts[domain.harm] == 0.0)}


def checked_text(action: Any) -> str:
    """A ``write`` action. Characters outside the charset are judged as they stand, lone surrogates as ``?``.

    Raises:
        ActionError: Not a string, or too long.
    """
    if not isinstance(action, str):
        raise ActionError(f"A write action must be a str, not {type(action).__name__}.")
    if len(action) > TEXT_LENGTH:
        raise ActionError(
            f"A write action may have {TEXT_LENGTH:,} characters; this one has {len(action):,}. "
            "Cut it: hare_gym.contract.sanitise(text, spec.text_length)."
        )
    return action.encode("utf-8", "replace").decode()


def task_of(domain: Domain[Any, Any], config: TextConfig, knobs: dict[str, Any], mode: ActionMode) -> TaskSpec:
    """What agents may know."""
    return TaskSpec(
        id=domain.id,
        action_mode=mode,
        horizon=config.horizon,
        num_users=config.num_users,
        query_dim=domain.query_dim,
        content_dim=domain.content_dim,
        num_items=len(domain.items),
        pool=domain.phi,
        pool_texts=domain.texts,
        has_query_text=True,
        text_length=TEXT_LENGTH,
        encoder=domain.encoder,
        reward_version=domain.reward_version,
        kwargs=dict(knobs),
    )
