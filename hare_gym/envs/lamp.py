"""``HareLaMP1-v0`` to ``HareLaMP7-v0``: somebody's question, answered as this person would.

`HareLaMP` plays one session, `HareLaMPVector` many in lockstep, each lane with the bits of the single form. Both look
rounds up in `_Rounds`, which reads a question, measures its answers and judges them once, and keeps what it found.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import gymnasium as gym
import numpy as np
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from hare_gym.config import configure
from hare_gym.contract import ActionMode, TaskSpec, action_space, observation_space, sanitise
from hare_gym.environment import Environment, check_mode, item_index, lane_count, lane_generators
from hare_gym.envs.noise import stream
from hare_gym.errors import ActionError, ConfigError, DataError
from hare_gym.lamp import metrics
from hare_gym.lamp.data import LampData, load
from hare_gym.lamp.features import Features
from hare_gym.lamp.reading import HASHED, answered_item, as_seen, pool_text_of_profile, task_name
from hare_gym.lamp.synthetic import GENERATOR_VERSION, World
from hare_gym.lamp.tasks import LampTask, ProfileItem, Question, query_of, task_of

Array = NDArray[np.float64]

MODES: tuple[ActionMode, ...] = ("select", "write")
REWARD_VERSION = "1"
TEXT_LENGTH = 8192
SYNTHETIC_USERS, SYNTHETIC_PROFILE, FILES_PROFILE = 20, 16, 100
# What is kept of the rounds' pools, in bytes, and at least so many rounds.
_KEPT_BYTES, _KEPT_LEAST = 96 * 2**20, 256
# Uniform numbers drawn at once; part of what a seed means, so it never changes.
_BLOCK = 128


@dataclass(frozen=True)
class LaMPConfig:
    """The knobs of `HareLaMP`. The defaults are frozen: they are what the ids ``-v0`` mean.

    Attributes:
        number: The task: 1 citation, 2 movie tag, 3 product rating, 4 news headline, 5 paper title, 6 e-mail subject,
            7 tweet. The ids fix it.
        horizon: Rounds in a session, T.
        data: The folder of the published files (see `hare_gym.lamp.data.load`); None for synthetic questions.
        split: Which part of the files: ``train`` or ``dev``. The published test part has no answers.
        num_users: Users; None for 20 synthetic ones, or for all that the files have. Of files, the first so many.
        profile_size: Items of a profile, at most: the latest; None for 16 in a synthetic one, and 100 of the files'.
        questions: Questions of a user before the others have had as many; None for no limit, or for all in the files.
        growing: Whether a user's answered question joins the profile of their later ones; None for no in synthetic
            questions and in the files' split by user, and yes in the split by time.
        encoder: What turns texts into vectors: ``hashed`` (words' hashes, needs no model), ``minilm``, the path of a
            folder that holds a model, or a model's id on a hub.
    """

    number: int = field(default=4, metadata={"low": 1, "high": 7})
    horizon: int = field(default=1000, metadata={"low": 1})
    data: str | None = None
    split: str = field(default="dev", metadata={"choices": ("train", "dev", "test")})
    num_users: int | None = field(default=None, metadata={"low": 1})
    profile_size: int | None = field(default=None, metadata={"low": 1})
    questions: int | None = field(default=None, metadata={"low": 1})
    growing: bool | None = None
    encoder: str = HASHED


class _Questions(Protocol):
    """Where questions come from."""

    num_users: int

    def limit(self, user: int) -> int | None:
        """How many questions a user has; None for as many as one likes."""
        ...

    def question(self, user: int, k: int) -> Question:
        """The user's k-th, with its answer."""
        ...


class _Files:
    """The questions of the published files."""

    def __init__(self, data: LampData, config: LaMPConfig) -> None:
        if not data.golds:
            raise DataError(
                f"{config.data}: the {config.split} part has no outputs, so nothing there can be judged. Play "
                "split='dev' or split='train'; the published test part is for prediction files."
            )
        users = data.users if config.num_users is None else data.users[: config.num_users]
        self._data = data
        # a question whose answer is not there cannot be judged
        self._asked = [
            [place for place in data.asked[user] if data.outputs[place] is not None][: config.questions]
            for user in users
        ]
        self._asked = [asked for asked in self._asked if asked]
        self.num_users = len(self._asked)

    def limit(self, user: int) -> int | None:
        return len(self._asked[user])

    def question(self, user: int, k: int) -> Question:
        asked = self._asked[user]
        return self._data.questions[asked[k % len(asked)]]


class _Synthetic:
    """The questions of hidden users."""

    def __init__(self, world: World, config: LaMPConfig) -> None:
        self.world, self.num_users, self._limit = world, world.num_users, config.questions

    def limit(self, user: int) -> int | None:
        return self._limit

    def question(self, user: int, k: int) -> Question:
        return self.world.question(user, k)


@dataclass(frozen=True, eq=False, slots=True)
class _Round:
    """One question, and all that does not depend on the action.

    Attributes:
        question: As it is in its file.
        seen: As observations show it.
        query: ``(query_dim,)``.
        answers: Those that can be selected.
        pool: ``(N, content_dim)``, padded with zeros.
        mask: ``(N,)``.
        pool_text: Only in ``write``.
        rewards: Of the answers that can be selected, ``(N,)``, padded with zeros.
        best: The best of them.
        oracle: What the gold answer earns.
    """

    question: Question
    seen: Question
    query: Array
    answers: tuple[str, ...]
    pool: Array
    mask: NDArray[np.int8]
    pool_text: str
    rewards: Array
    best: float
    oracle: float


class _Rounds:
    """Rounds by lane, user and number; made when they are first asked for."""

    def __init__(self, config: LaMPConfig, mode: ActionMode) -> None:
        self.config, self.mode = config, mode
        self.data = None if config.data is None else load(config.data, config.number, config.split)
        self.task: LampTask = task_of(config.number) if self.data is None else self.data.task
        self.growing = (self.data is not None and self.data.timed) if config.growing is None else config.growing
        self.profile_size = config.profile_size or (SYNTHETIC_PROFILE if self.data is None else FILES_PROFILE)
        self.features = Features(self.task, config.encoder)
        if self.data is None:
            self.num_users = SYNTHETIC_USERS if config.num_users is None else config.num_users
            self._files = None
        else:
            self._files = _Files(self.data, config)
            self.num_users = self._files.num_users
        self.sources: list[_Questions] = []
        self.from_answers = mode == "select"
        self.num_items = len(self.task.labels) if mode == "select" and self.task.labels else self.profile_size
        self.content_dim = self.features.dim if mode == "select" else self.features.query_dim
        self._kept: OrderedDict[tuple[int, int, int], _Round] = OrderedDict()
        self._most = max(_KEPT_LEAST, _KEPT_BYTES // (8 * self.num_items * (self.content_dim + 1)))

    def draw_worlds(self, rngs: Sequence[np.random.Generator]) -> None:
        """Draws the hidden users of each world; files need none."""
        seeds = [int(rng.integers(2**63)) for rng in rngs]
        if self._files is not None:
            self.sources = [self._files] * len(rngs)
            return
        c = self.config
        worlds = [World(c.number, self.num_users, self.profile_size, seed) for seed in seeds]
        self.sources = [_Synthetic(world, c) for world in worlds]
        self._kept.clear()

    def __call__(self, world: int, user: int, k: int) -> _Round:
        """The k-th round of a user."""
        source = self.sources[world]
        if self._files is not None:
            # lanes share the files
            world, k = 0, k % (self._files.limit(user) or 1)
        key = world, user, k
        found = self._kept.get(key)
        if found is None:
            if len(self._kept) >= self._most:
                self._kept.popitem(last=False)
            found = self._kept[key] = self._made(source, user, k)
        return found

    def _made(self, source: _Questions, user: int, k: int) -> _Round:
        question = source.question(user, k)
        if self.growing and k:
            question = self._grown(source, question, user, k)
        if len(question.profile) > self.profile_size:
            profile = question.profile[-self.profile_size :]
            question = Question(question.id, question.input, profile, question.user, question.output)
        task, features = self.task, self.features
        seen = as_seen(task, question, TEXT_LENGTH)
        answers = task.labels or tuple(item.fields[task.answered] for item in seen.profile) or ("",)
        gold = question.output or ""
        if task.labels:
            rewards, oracle = metrics.scores(task, gold, answers), 1.0
        else:
            *rewards, oracle = metrics.scores(task, gold, (*answers, sanitise(gold, TEXT_LENGTH)))
        pool = np.zeros((self.num_items, self.content_dim))
        if self.mode == "select":
            vectors = features(seen, answers)
        else:
            vectors = features.profile(seen) if seen.profile else np.zeros((1, self.content_dim))
        pool[: len(vectors)] = vectors
        mask = np.zeros(self.num_items, dtype=np.int8)
        mask[: len(vectors)] = 1
        padded = np.zeros(max(self.num_items, len(rewards)))
        padded[: len(rewards)] = rewards
        return _Round(
            question=question,
            seen=seen,
            query=features.query(seen),
            answers=answers,
            pool=pool,
            mask=mask,
            pool_text=pool_text_of_profile(task, seen.profile, TEXT_LENGTH) if self.mode == "write" else "",
            rewards=padded,
            best=max(rewards),
            oracle=oracle,
        )

    def _grown(self, source: _Questions, question: Question, user: int, k: int) -> Question:
        """The question with those before it in its profile, but for what is there already."""
        known = {tuple(item.fields.items()) for item in question.profile}
        # no more than fit in
        earlier = (source.question(user, j) for j in range(max(0, k - self.profile_size), k))
        items = [answered_item(self.task, one) for one in earlier]
        fresh: list[ProfileItem] = [item for item in items if tuple(item.fields.items()) not in known]
        return Question(question.id, question.input, (*question.profile, *fresh), question.user, question.output)

    def judged(self, round: _Round, text: str) -> float:
        """What a written answer earns."""
        return metrics.score(self.task, round.question.output or "", text)

    def spec(self, knobs: dict[str, Any]) -> TaskSpec:
        """The task."""
        version = (
            f"{REWARD_VERSION}.{GENERATOR_VERSION}" if self.data is None else f"{REWARD_VERSION} of {self._digest()}"
        )
        return TaskSpec(
            id=f"HareLaMP{self.config.number}-v0",
            action_mode=self.mode,
            horizon=self.config.horizon,
            num_users=self.num_users,
            query_dim=self.features.query_dim,
            content_dim=self.content_dim,
            num_items=self.num_items,
            has_query_text=True,
            text_length=TEXT_LENGTH,
            encoder=self.features.name,
            reward_version=f"{version} {task_name(self.task)}",
            kwargs=dict(knobs),
            has_pool_text=self.mode == "write",
        )

    def _digest(self) -> str:
        """The folder may come to hold other data, which are then another task."""
        assert self.data is not None
        digest = hashlib.sha256()
        for part in (self.data.ids, self.data.owners, self.data.outputs):
            digest.update(repr(part).encode("utf-8", "surrogatepass"))
        return digest.hexdigest()[:16]


class _Session:
    """Whose turn it is in one lane.

    Args:
        source: Whose questions.
        seed: Of the order of the users.
        first: The number of each user's first question.
        step: By how much their numbers grow: with more than one, lanes of one world never meet the same question.
    """

    def __init__(self, source: _Questions, seed: int, first: int = 0, step: int = 1) -> None:
        self._source, self._rng, self._first, self._step = source, stream(seed), first, step
        self._asked = [0] * source.num_users
        self._limits = [source.limit(user) for user in range(source.num_users)]
        self._active = list(range(source.num_users))
        self._uniforms: Iterator[float] = iter(())
        self._epoch = 1
        self._unlimited = all(limit is None for limit in self._limits)

    def next(self) -> tuple[int, int]:
        """The user of the next round, drawn from those with questions left, and the number of their question."""
        u = next(self._uniforms, None)
        if u is None:
            self._uniforms = iter(self._rng.random(_BLOCK).tolist())
            u = next(self._uniforms)
        place = int(u * len(self._active))
        user = self._active[place]
        k = self._asked[user]
        self._asked[user] = k + 1
        if not self._unlimited and k + 1 == (self._limits[user] or 0) * self._epoch:
            self._active[place] = self._active[-1]
            self._active.pop()
            if not self._active:  # everybody has had their questions: all begin again
                self._active = list(range(self._source.num_users))
                self._epoch += 1
        return user, self._first + k * self._step


class HareLaMP(Environment):
    """One person's question, to be answered as this person would: the seven tasks of LaMP, played with feedback.

    LaMP (Salemi et al. 2024) is the standard benchmark for personalised language models: a question, the profile of
    the user who asks (what they have written, tagged or rated before), and the answer that this user gave. Here it is
    an interactive environment: each round is one question of one user, and the agent learns from the official metric
    of its own answer. The tasks: 1 which of two papers the author cites, 2 a film's tag, 3 a product's rating,
    4 a headline, 5 a paper's title, 6 the subject of an e-mail, 7 a tweet in the user's own words.

    Without ``data``, questions are synthetic (`hare_gym.lamp.synthetic`): hidden users with habits of which their
    profile tells a good deal, and rewards the rest. ``data="folder"`` plays the published files, which are not
    shipped (their licence is CC BY-NC-SA 4.0); task 2 in its newer form or the older one, whichever the folder holds.

    The hidden users are drawn by ``reset(seed=...)``; a reset without a seed starts another session with the same
    users and questions, in another order. A user's questions come in order. One whose questions have run out is drawn
    no more until all have, and then everybody begins again: with fresh questions where they are synthetic.

    **Action space.** ``select``: ``Discrete(num_items)``, one of the answers in the pool: in tasks 1 to 3 the labels,
    in tasks 4 to 7 the answers of the profile's items, to be borrowed. ``write``: a text of at most 8,192 characters,
    the answer itself; of a label, spaces around it do not count. A longer one is refused.

    **Observation space.** ``query``: ``Box(16)``, float64, what is asked, encoded. ``user``: ``Discrete(num_users)``.
    ``query_text``: the whole question. ``pool`` and ``pool_mask``: in ``select`` the vectors of the answers as
    `hare_gym.lamp.features.Features` measures them (what any reader can compute from question, profile and answer);
    in ``write`` the profile's items, encoded as the query is, and ``pool_text``: their texts, each as lines
    ``field: text``. Items come oldest first. An empty profile gives one item that is empty. The observation after
    the last round repeats the last round's.

    **Reward.** The official metric of the answer, in [0, 1] and without noise: in tasks 1 and 2 whether it is right,
    in task 3 1 - abs(error)/4 (0 for what is no number), in tasks 4 to 7 the mean of the F-measures of ROUGE-1 and
    ROUGE-L. An item that ``pool_mask`` leaves out earns nothing.

    **Oracle.** Exact: in ``write`` the gold answer (which earns 1, or 0 where it has no word at all that ROUGE
    counts), in ``select`` the best answer in the pool. ``oracle_reward`` is the former, ``catalogue_oracle_reward``
    the latter.

    **Knobs.** `LaMPConfig` lists them all. ``growing`` lets a user's answered questions join the profile of their
    later ones, gold answers included, as the split by time does.

    **Version history.** v0: first version.
    """

    modes = MODES

    def __init__(self, action_mode: str | None = None, render_mode: str | None = None, **knobs: Any) -> None:
        super().__init__(action_mode, render_mode)
        self.config = configure(LaMPConfig, knobs, "HareLaMP")
        self._rounds = _Rounds(self.config, self.action_mode)
        self._set_task(self._rounds.spec(knobs))

    @property
    def lamp_task(self) -> LampTask:
        """The LaMP task; the older task 2 where the folder holds that."""
        return self._rounds.task

    @property
    def question(self) -> Question:
        """The question just asked, with its answer. For oracles and tests; agents never see it."""
        return self._round.question

    @property
    def world(self) -> World | None:
        """The hidden users; None for files. For tests; agents never see them."""
        source = self._rounds.sources[0]
        return source.world if isinstance(source, _Synthetic) else None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Draws the users (with a seed, or the first time) and starts a session with them."""
        super().reset(seed=seed)
        if seed is not None or not self._rounds.sources:
            self._rounds.draw_worlds([self.np_random])
        self._session = _Session(self._rounds.sources[0], int(self.np_random.integers(2**63)))
        self._t = 0
        self._start_rendering()
        self._prepare()
        return self._observation(), {}

    def _prepare(self) -> None:
        self._user, k = self._session.next()
        self._round = self._rounds(0, self._user, k)

    def _observation(self) -> dict[str, Any]:
        round = self._round
        observation = {
            "query": round.query.copy(),
            "user": np.int64(self._user),
            "query_text": round.seen.input,
            "pool": round.pool.copy(),
            "pool_mask": round.mask.copy(),
        }
        if self.action_mode == "write":
            observation["pool_text"] = round.pool_text
        return observation

    def step(self, action: Any) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """Plays one round.

        Raises:
            ActionError: An action of the wrong type, range or length; the round is not spent.
        """
        round = self._round
        if self.action_mode == "select":
            action = item_index(action, self.task.num_items)
            reward = float(round.rewards[action])
        else:
            reward = self._rounds.judged(round, checked_text(action))
        info = self._info(reward, round.oracle, round.best)
        return self._end_round(self._user, action, reward, info)

    def optimal_action(self) -> Any:
        """The best answer's index, or the gold answer."""
        if self.action_mode == "select":
            return int(np.argmax(self._round.rewards))
        return sanitise(self._round.question.output or "", TEXT_LENGTH)

    # -- rendering ----------------------------------------------------------------------------------------------

    def _note_round(self, user: int, action: Any, reward: float, info: dict[str, Any]) -> None:
        if self.render_mode is None:
            return
        super()._note_round(user, _short(action, 60) if isinstance(action, str) else action, reward, info)
        answers = self._round.answers
        shown = action if isinstance(action, str) else answers[action] if action < len(answers) else ""
        asked, gold = query_of(self.lamp_task, self._round.seen.input), self._round.question.output or ""
        self._shown = "".join(
            f"  {name}: {_short(text)}\n" for name, text in zip(_LINES, (asked, shown, gold), strict=True)
        )

    def render(self) -> Any:
        """The last round for a person to read (``ansi``), or a picture of the session (``rgb_array``)."""
        picture = super().render()
        return picture + self._shown if self.render_mode == "ansi" and self._history else picture


class HareLaMPVector(gym.vector.VectorEnv[dict[str, Any], Any, Any]):
    """Many `HareLaMP` in lockstep: lane i with ``seed + i`` gives the single environment's bits.

    ``gymnasium.make_vec("HareLaMP3-v0", num_envs=64)`` makes it. All sessions have one horizon and end together; the
    step after that starts the next session (``AutoresetMode.NEXT_STEP``). A question is read, measured and judged
    when it is first met, and then kept.

    With ``shared_world=True`` every lane has the users of lane 0 and no lane meets a question of another: one agent
    serving many at once. With files the lanes share the questions in any case.
    """

    metadata = {"render_modes": [], "autoreset_mode": gym.vector.AutoresetMode.NEXT_STEP}

    def __init__(
        self, num_envs: int = 1, action_mode: str | None = None, shared_world: bool = False, **knobs: Any
    ) -> None:
        knobs.pop("render_mode", None)
        self.num_envs = lane_count(num_envs)
        self.config = configure(LaMPConfig, knobs, "HareLaMP")
        self.action_mode: ActionMode = check_mode("HareLaMP", MODES, action_mode)
        self.shared_world = shared_world
        self._rounds = _Rounds(self.config, self.action_mode)
        if shared_world and self._rounds.growing and num_envs > 1:
            raise ConfigError(
                "HareLaMP: with growing profiles the lanes of one world would tell each other answers before they "
                "are asked. Use growing=False, or one lane."
            )
        self.task = self._rounds.spec(knobs)
        self.single_observation_space = observation_space(self.task)
        self.single_action_space = action_space(self.task)
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        self._rngs: list[np.random.Generator] = []

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Draws the users (with a seed, or the first time) and starts a session in every lane."""
        W = self.num_envs
        if seed is not None or not self._rngs:
            self._rngs = lane_generators(seed, self.num_envs)
            self._rounds.draw_worlds(self._rngs[:1] if self.shared_world else self._rngs)
        sources = self._rounds.sources
        starts = [int(rng.integers(2**63)) for rng in self._rngs]
        if self.shared_world:
            self._sessions = [_Session(sources[0], start, lane, W) for lane, start in enumerate(starts)]
        else:
            self._sessions = [_Session(source, start) for source, start in zip(sources, starts, strict=True)]
        self._t = 0
        self._prepare()
        return self._observation(), {}

    def _prepare(self) -> None:
        rounds, shared = self._rounds, self.shared_world
        turns = [session.next() for session in self._sessions]
        self._users = np.array([user for user, _ in turns])
        self._now = [rounds(0 if shared else lane, user, k) for lane, (user, k) in enumerate(turns)]

    def _observation(self) -> dict[str, Any]:
        now = self._now
        observation = {
            "query": np.stack([round.query for round in now]),
            "user": self._users.copy(),
            "query_text": tuple([round.seen.input for round in now]),
            "pool": np.stack([round.pool for round in now]),
            "pool_mask": np.stack([round.mask for round in now]),
        }
        if self.action_mode == "write":
            observation["pool_text"] = tuple([round.pool_text for round in now])
        return observation

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
        reward = self._judge(actions)
        oracle = np.array([round.oracle for round in self._now])
        best = np.array([round.best for round in self._now])
        info: dict[str, Any] = {
            "expected_reward": reward.copy(),
            "oracle_reward": oracle,
            "catalogue_oracle_reward": best,
            "regret": (best if self.action_mode == "select" else oracle) - reward,
        }
        info |= {f"_{key}": np.ones(self.num_envs, dtype=np.bool_) for key in list(info)}
        self._t += 1
        truncated = np.full(self.num_envs, self._t >= self.config.horizon)
        if self._t < self.config.horizon:
            self._prepare()
        return self._observation(), reward, none, truncated, info

    def _judge(self, actions: Any) -> Array:
        W, N = self.num_envs, self.task.num_items
        if self.action_mode == "write":
            if not isinstance(actions, list | tuple | np.ndarray) or len(actions) != W:
                raise ActionError(f"Write actions must be {W} texts, not {type(actions).__name__}.")
            texts = [checked_text(action) for action in actions]
            return np.array([self._rounds.judged(now, text) for now, text in zip(self._now, texts, strict=True)])
        actions = np.asarray(actions)
        if actions.shape != (W,) or not np.issubdtype(actions.dtype, np.integer):
            raise ActionError(
                f"Select actions must be {W} integers, not an array of shape {actions.shape} and dtype "
                f"{actions.dtype}."
            )
        if actions.min() < 0 or actions.max() >= N:
            bad = int(actions[(actions < 0) | (actions >= N)][0])
            raise ActionError(f"Item {bad} is not in the pool of {N}: use 0 to {N - 1}.")
        return np.array([now.rewards[action] for now, action in zip(self._now, actions.tolist(), strict=True)])


_LINES = ("asked", "answered", "gold")


def _short(text: str, length: int = 300) -> str:
    text = " ".join(text.split())
    return text if len(text) <= length else text[: length - 3] + "..."


def checked_text(action: Any) -> str:
    """A ``write`` action.

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
    return action
