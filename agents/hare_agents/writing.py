"""Any agent that chooses content, and a decoder that puts it into words: an agent that writes."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from hare_agents._content import into_ball
from hare_agents.decoders import Decoder, make_decoder
from hare_agents.decoders.pool import reader_of
from hare_agents.hare import HAREAgent
from hare_agents.rag import RAGProfile
from hare_gym.config import configure
from hare_gym.contract import Action, ActionMode, Agent, Observation, TaskSpec, nth_observation, sanitise
from hare_gym.errors import ConfigError
from hare_gym.registry import make_agent

Array = NDArray[np.float64]

OWNER = "agent 'writer'"
_REMEMBERED = 4096


@dataclass(frozen=True)
class WritingConfig:
    """The hyperparameters of `Writing`.

    Attributes:
        agent: The name of the agent that chooses content, or ``"package.module:Class"``.
        agent_kwargs: Its hyperparameters.
        decoder: What writes, see `hare_agents.decoders.make_decoder`.
        decoder_kwargs: Its knobs.
        choose: How the inner agent plays: ``synthesize``, ``select``, or ``auto``: the first of them that it can.
        selected: What becomes of an item that the inner agent selects: it is shown ``verbatim``, or ``decoded`` from
            its vector.
        temperature: Cosine that changes the logit of an item's weight by one, for agents without attention.
        conditioned: Whether the decoder is told anything. False is for the plain decoder: it gets NaN for z and u,
            and every item weighs the same.
        repeatable: Whether the decoder's draws depend on z and the query alone, so that where they agree the texts
            are the same to the letter, whoever asks. A decoder that draws nothing is so anyway.
    """

    agent: str = "hare"
    agent_kwargs: Any = field(default_factory=dict)
    decoder: str = "composer"
    decoder_kwargs: Any = field(default_factory=dict)
    choose: str = field(default="auto", metadata={"choices": ("auto", "synthesize", "select")})
    selected: str = field(default="verbatim", metadata={"choices": ("verbatim", "decoded")})
    temperature: float = field(default=0.05, metadata={"above": 0})
    conditioned: bool = True
    repeatable: bool = False

    def __post_init__(self) -> None:
        for name in ("agent_kwargs", "decoder_kwargs"):
            if not isinstance(getattr(self, name), Mapping):
                raise ConfigError(f"{OWNER}: {name} must be a mapping of names to values.")


class Writing(Agent):
    """Lets an agent that synthesizes or selects play ``write``.

    The inner agent meets the same task in its own mode. What it chooses is a content vector z, or an item; the
    decoder writes for z, for the agent's state of the user and for its attention over the items (that of HARE where
    HARE is inside, else a softmax of cosines with z). What the inner agent then learns from is not what it asked for
    but what the text turned out to be: the content vector that any reader can measure.
    Where items are selected it learns about the item whose text was shown, or that the decoded text came nearest to.

    Baselines come through the same door: ``agent="rag"`` writes one text for everyone who has one query,
    ``agent="rag-profile"`` keeps a static profile, ``agent_kwargs={"user_state": False}`` is HARE without users,
    ``{"synthesis": "blend"}`` HARE by attention alone, ``agent="linucb", choose="select"`` a recommender, and
    ``conditioned=False`` a decoder that nobody tells anything.

    Raises:
        UnknownNameError: No such agent, decoder or knob.
        ConfigError: A knob out of range, or an inner agent that neither synthesizes nor selects. At ``reset``, a task
            whose texts the decoder cannot use or nobody can measure.
    """

    modes: ClassVar[frozenset[ActionMode]] = frozenset({"write"})
    config: WritingConfig

    def __init__(self, **hyperparameters: Any) -> None:
        self.config = configure(WritingConfig, hyperparameters, OWNER)
        c = self.config
        self.agent = make_agent(c.agent, **c.agent_kwargs)
        able: list[ActionMode] = [mode for mode in ("synthesize", "select") if mode in self.agent.modes]
        if c.choose != "auto":
            able = [mode for mode in able if mode == c.choose]
        if not able or self.agent.privileged:
            wanted = "synthesizes or selects" if c.choose == "auto" else f"can {c.choose}"
            raise ConfigError(f"{OWNER}: {c.agent!r} is no agent that {wanted} and learns from rewards alone.")
        self.choose: ActionMode = able[0]
        self.decoder: Decoder | None = None

    @property
    def shows_items(self) -> bool:
        """Whether items are shown word for word, and nothing is written."""
        return self.choose == "select" and self.config.selected == "verbatim"

    def reset(self, spec: TaskSpec, rng: np.random.Generator) -> None:
        """Makes the decoder ready, and resets the inner agent for the same task in its own mode."""
        super().reset(spec, rng)
        if not spec.pool_texts or spec.pool is None:
            raise ConfigError(f"{OWNER} needs a task with a pool of texts that stays; {spec.id} has none.")
        self._item_of = {text: k for k, text in enumerate(spec.pool_texts)}
        if not self.shows_items:
            self._read = reader_of(spec)
            if self.decoder is None:
                self.decoder = make_decoder(self.config.decoder, **self.config.decoder_kwargs)
            self.decoder.prepare(spec)
        lengths = np.sqrt(np.vecdot(spec.pool, spec.pool))
        self._directions = spec.pool / np.maximum(lengths, 1e-12)[:, None]
        self._contents: dict[str, Array] = {}
        self._asked: tuple[str, Array] | None = None
        self._fidelity: float | None = None
        self.agent.reset(replace(spec, action_mode=self.choose), rng)

    # -- writing ------------------------------------------------------------------------------------------------

    def act(self, observation: Observation) -> Action:
        """The text for one round."""
        return self._written(observation, self.agent.act(observation))

    def act_batch(self, observations: Observation) -> Action:
        """As `act` for B users; the inner agent chooses for all of them at once."""
        chosen = self.agent.act_batch(observations)
        return tuple(
            self._written(nth_observation(observations, b), chosen[b]) for b in range(len(observations["user"]))
        )

    def _written(self, observation: Observation, chosen: Action) -> str:
        texts, pool = self.spec.pool_texts, self.spec.pool
        assert texts is not None and pool is not None
        if self.shows_items:
            return texts[int(chosen)]
        assert self.decoder is not None
        z = pool[int(chosen)] if self.choose == "select" else into_ball(np.asarray(chosen)[None])[0]
        query = str(observation.get("query_text", ""))
        if self.config.conditioned:
            weights, u = self._weights(observation, z), self._user_state(int(observation["user"]))
        else:
            z = u = np.full(len(z), np.nan)
            weights = np.full(len(texts), 1.0 / len(texts))
        rng = _seeded(z, query) if self.config.repeatable else self.rng
        text = sanitise(self.decoder.decode(z, u, query, texts, weights, rng), self.spec.text_length)
        self._asked = text, z
        return text

    def _weights(self, observation: Observation, z: Array) -> Array:
        """Attention over the items, ``(N,)``, sum one."""
        if isinstance(self.agent, HAREAgent):
            ids, A = self.agent.hare.attention(observation["query"], int(observation["user"]))
            weights = np.zeros(self.spec.num_items)
            weights[ids] = A
            return weights
        logits = self._directions @ z / (max(float(np.linalg.norm(z)), 1e-12) * self.config.temperature)
        weights = np.exp(logits - logits.max())
        return np.asarray(weights / weights.sum())

    def _user_state(self, user: int) -> Array:
        """What the inner agent knows of the user as content, ``(content_dim,)``; zeros where it keeps nothing."""
        if isinstance(self.agent, HAREAgent) and self.agent.config.user_state:
            return self.agent.hare.user_mean(user)
        profile = self.agent.profile(user) if isinstance(self.agent, RAGProfile) else None
        return np.zeros(self.spec.content_dim) if profile is None else profile

    # -- learning -----------------------------------------------------------------------------------------------

    def update(self, observation: Observation, action: Action, reward: float) -> None:
        """Teaches the inner agent what the text that was shown turned out to be, and earned."""
        self.agent.update(observation, self._taught(action), reward)

    def update_batch(self, observations: Observation, actions: Action, rewards: NDArray[np.float64]) -> None:
        """Teaches the B rewards of one `act_batch`."""
        self.agent.update_batch(observations, np.stack([self._taught(text) for text in actions]), rewards)

    def _taught(self, text: str) -> Any:
        """What the inner agent should learn a text as: its content, or an item."""
        if self.choose == "select" and text in self._item_of:
            return self._item_of[text]
        y = self.content(text)
        if self._asked is not None and self._asked[0] == text:
            z = self._asked[1]
            lengths = float(np.linalg.norm(y) * np.linalg.norm(z))
            self._fidelity = float(y @ z) / lengths if lengths > 0.0 else None
        if self.choose == "select":
            assert self.spec.pool is not None
            return int(np.argmin(np.sum((self.spec.pool - y) ** 2, axis=1)))
        return y.astype(np.float32)

    def content(self, text: str) -> Array:
        """The content vector of a text, ``(content_dim,)``, as any reader measures it; an item's is the task's."""
        assert self.spec.pool is not None
        if text in self._item_of:
            return np.asarray(self.spec.pool[self._item_of[text]])
        found = self._contents.get(text)
        if found is None:
            if self.shows_items:
                self._read = reader_of(self.spec)
            if len(self._contents) >= _REMEMBERED:
                self._contents.clear()
            found = self._contents[text] = self._read(text)
        return found

    # -- what it keeps and tells --------------------------------------------------------------------------------

    def state(self) -> dict[str, NDArray[Any]]:
        """The inner agent's."""
        return self.agent.state()

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Takes back what `state` gave; raises as the inner agent does."""
        self.agent.load_state(state)

    def diagnostics(self) -> dict[str, float]:
        """The inner agent's, and ``fidelity``: the cosine of the last text's content with what was asked for."""
        told = dict(self.agent.diagnostics())
        if self._fidelity is not None and np.isfinite(self._fidelity):
            told["fidelity"] = self._fidelity
        return told


def _seeded(z: Array, query: str) -> np.random.Generator:
    digest = hashlib.blake2b(z.tobytes() + query.encode("utf-8", "surrogatepass"), digest_size=16).digest()
    return np.random.default_rng(int.from_bytes(digest, "little"))
