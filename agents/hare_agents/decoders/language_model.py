"""A causal language model that writes skills for a content vector and a user: `ConditionedDecoder`.

The vectors become a soft prefix (Lester et al., 2021, "The power of scale for parameter-efficient prompt tuning";
Li and Liang, 2021, "Prefix-tuning"): an MLP maps z ⊕ u to a few virtual tokens that stand in front of the text.
Model and prefix, or a LoRA (Hu et al., 2022) and the prefix, are trained together from the first step: a model that
learns the format first learns to ignore z.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hare_agents.decoders.models import CONFIG_FILE, load_model, quiet, resolve
from hare_agents.decoders.reading import Reader, closest, read_contents
from hare_agents.decoders.skeleton import FRONT, OPENING, SKELETONS, Line, Skeleton, Vocabulary
from hare_agents.decoders.training import Pair, train
from hare_gym.config import configure
from hare_gym.contract import TaskSpec
from hare_gym.errors import ConfigError, DataError, MissingPackageError
from hare_gym.text.skills import Skill, SkillError, parse, render

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read when torch is imported; spinning threads starve others

if TYPE_CHECKING:
    import torch

Array = NDArray[np.float64]

PREFIX_FILE, ADAPTER_FOLDER = "prefix.safetensors", "adapter"
_CLIP = 4.0  # standard deviations; a user state far outside the training data must not drown z


@dataclass(frozen=True)
class LanguageModelConfig:
    """Knobs of a `ConditionedDecoder`.

    Attributes:
        virtual_tokens: Length of the soft prefix.
        hidden: Width of the prefix's MLP.
        z_dropout: Share of training texts whose vectors are hidden, so that the model can also write without.
        front_weight: How much more a token of the frontmatter weighs in the loss than one of the body.
        prefix_scale: Size of the virtual tokens at the start, in sizes of the model's own token vectors.
        lora_rank: Rank of a LoRA on all linear layers; 0 trains the whole model.
        max_tokens: Longest text, in tokens.
        temperature: Of sampling.
        top_k: Most tokens that are considered at each place.
        top_p: Nucleus of sampling (Holtzman et al., 2020).
        guidance: How far texts are moved away from what the model would write without vectors (classifier-free
            guidance, see `hare_agents.decoders.sampling.sample`); 1 is not at all, and twice as fast.
        no_repeat: Runs of so many tokens come at most once in a text; 0 for no such rule.
        candidates: Texts that are drawn for each one; the one whose content, read off the text (see
            `ConditionedDecoder.reader`), is nearest to z is kept. Costs as many times more, and the reading.
        drafts: Openings (name and description) that are drawn for each text; only the one whose content is nearest to
            z is finished. Cheaper than ``candidates``, which stand beside it; needs a skeleton.
        skeleton: What is kept in shape while it is written: ``none``; ``frontmatter`` (its keys are forced, the name
            is made of allowed tokens, the description is one line without YAML's marks); ``short`` (also the lines of
            a short skill: a title, three triggers, four steps, a request and a response).
    """

    virtual_tokens: int = field(default=8, metadata={"low": 1, "high": 64})
    hidden: int = field(default=256, metadata={"low": 1})
    z_dropout: float = field(default=0.15, metadata={"low": 0, "high": 1})
    front_weight: float = field(default=4.0, metadata={"above": 0})
    prefix_scale: float = field(default=3.0, metadata={"above": 0})
    lora_rank: int = field(default=0, metadata={"low": 0})
    max_tokens: int = field(default=512, metadata={"low": 16})
    temperature: float = field(default=0.7, metadata={"above": 0})
    top_k: int = field(default=64, metadata={"low": 1})
    top_p: float = field(default=0.9, metadata={"above": 0, "high": 1})
    guidance: float = field(default=1.0, metadata={"low": 0})
    no_repeat: int = field(default=0, metadata={"low": 0})
    candidates: int = field(default=1, metadata={"low": 1, "high": 64})
    drafts: int = field(default=1, metadata={"low": 1, "high": 64})
    skeleton: str = field(default="frontmatter", metadata={"choices": tuple(SKELETONS)})

    def __post_init__(self) -> None:
        if self.guidance != 1.0 and self.z_dropout == 0.0:
            raise ConfigError(
                "guidance needs a model that can also write without vectors: set z_dropout above 0, or guidance to 1."
            )
        if self.drafts > 1 and self.skeleton == "none":
            raise ConfigError(
                "drafts needs a skeleton, which says where an opening ends: set skeleton to 'frontmatter' or "
                "'short', or drafts to 1."
            )


@dataclass(frozen=True)
class Likelihood:
    """How well texts are predicted.

    Attributes:
        nats: Negative log-likelihood of each text, ``(n,)``.
        tokens: Tokens of each text, its end included, ``(n,)``.
        bytes: UTF-8 bytes of each text, ``(n,)``.
    """

    nats: Array
    tokens: Array
    bytes: Array

    @property
    def perplexity(self) -> float:
        """The exponential of the mean loss a token."""
        return math.exp(self.nats_per_token)

    @property
    def nats_per_token(self) -> float:
        """Mean loss a token."""
        return float(self.nats.sum() / self.tokens.sum())

    @property
    def bits_per_byte(self) -> float:
        """Mean bits a byte: comparable between models with different tokens."""
        return float(self.nats.sum() / math.log(2) / self.bytes.sum())

    def bits_gained_over(self, other: Likelihood) -> float:
        """Mean bits a text that this conditioning saves over another: the information that the vectors gave."""
        return float((other.nats - self.nats).mean() / math.log(2))


class ConditionedDecoder:
    """A decoder (see `hare_agents.decoders.protocol`) on any causal language model of transformers.

    z and u are standardised inside by the vectors it was trained with. The query does not reach the model in words:
    it has shaped z. A decoder made here writes nothing sensible before `train`; `load` brings back a trained one.

    Args:
        model: A causal language model of transformers.
        tokenizer: Its tokenizer.
        content_dim: Length of z and u.
        config: The knobs.
        name: What tables call it.
        base: Where the model came from: a folder or a hub's id. Needed to load a LoRA again.

    Attributes:
        reader: What reads the content of candidates and drafts off their texts, where ``candidates`` or ``drafts`` is
            above 1: `hare_agents.decoders.reading.read_contents` unless another function is put here.

    Raises:
        ConfigError: The tokenizer has no end token, or the model cannot hold the prefix and ``max_tokens``.
        MissingPackageError: ``lora_rank`` without peft.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        content_dim: int,
        config: LanguageModelConfig | None = None,
        name: str = "language-model",
        base: str = "",
    ) -> None:
        self.config = config or LanguageModelConfig()
        self.name, self.base, self.content_dim = name, base, content_dim
        self.reader: Reader = read_contents
        self.tokenizer = tokenizer
        self.end = tokenizer.eos_token_id
        if self.end is None:
            raise ConfigError(f"The tokenizer of {name!r} has no end token: set tokenizer.eos_token.")
        window = getattr(model.config, "max_position_embeddings", None)
        needed = self.config.virtual_tokens + self.config.max_tokens
        if window is not None and needed > window:
            raise ConfigError(
                f"The model {name!r} holds {window} tokens, not the {needed} of the prefix and the text: set "
                f"max_tokens to {window - self.config.virtual_tokens} or less."
            )
        self.model = _with_lora(model, self.config.lora_rank) if self.config.lora_rank else model
        self.model.eval()
        width = self._embed.weight.shape[1]
        size = float(self._embed.weight.detach().float().std()) * self.config.prefix_scale
        self.prefix = _prefix(content_dim, self.config, width, size).to(self._embed.weight.device)
        self.z_mean, self.z_std = np.zeros(content_dim), np.ones(content_dim)

    @classmethod
    def from_model(cls, source: str, content_dim: int, device: str = "cpu", **knobs: Any) -> ConditionedDecoder:
        """An untrained decoder on a language model.

        Args:
            source: ``smollm2``, a folder, or a hub's id such as ``openai-community/gpt2``.
            content_dim: Length of z and u.
            device: ``cpu``, ``cuda``, ...
            knobs: Of `LanguageModelConfig`.

        Raises:
            UnknownNameError: No such model or knob.
            ConfigError: The model cannot be loaded, or a knob is out of range.
        """
        config = configure(LanguageModelConfig, knobs, f"decoder {source!r}")
        base = resolve(source)
        model, tokenizer = load_model(base, device)
        return cls(model, tokenizer, content_dim, config, Path(base).name, "smollm2" if source == "smollm2" else base)

    # --- the protocol

    def prepare(self, spec: TaskSpec) -> None:
        """Checks that the task's vectors are of the length that the decoder was trained for.

        Raises:
            ConfigError: The task has no texts, or vectors of another length.
        """
        if not spec.pool_texts:
            raise ConfigError(f"The decoder {self.name!r} needs a task with texts; {spec.id} has none.")
        if spec.content_dim != self.content_dim:
            raise ConfigError(
                f"The decoder {self.name!r} was trained for vectors of length {self.content_dim}, and those of "
                f"{spec.id} have {spec.content_dim}: train one for this task (ConditionedDecoder.train)."
            )

    def decode(
        self,
        z: Array,
        user_state: Array,
        query: str,
        pool: tuple[str, ...],
        weights: Array,
        rng: np.random.Generator,
    ) -> str:
        """One text for z and u; the pool and its weights are what z was made of, and are not read again."""
        return self.decode_batch(z[None], user_state[None], rng)[0]

    def stream(
        self,
        z: Array,
        user_state: Array,
        query: str,
        pool: tuple[str, ...],
        weights: Array,
        rng: np.random.Generator,
        told: Callable[[str], None],
    ) -> str:
        """As `decode`, the same text; ``told`` is called with it after each token.

        With ``candidates`` above 1 it is told once, when one has been chosen.
        """
        if self.config.candidates > 1:
            text = self.decode(z, user_state, query, pool, weights, rng)
            told(text)
            return text
        opening = self._ids(OPENING)
        return self._drawn(
            z[None], user_state[None], rng, None, lambda rows: told(self._text(opening + rows[0], whole=True))
        )[0]

    # --- writing

    def decode_batch(
        self, z: Array | None, u: Array | None, rng: np.random.Generator, count: int | None = None
    ) -> list[str]:
        """Texts for B users at once.

        Args:
            z: Contents, ``(B, content_dim)``, or None for texts without any.
            u: User states, ``(B, content_dim)``, or None for users nobody knows.
            rng: Seeds the sampling; the global generators of torch are left as they were.
            count: B, where z and u are both None.

        Returns:
            B texts. One that reached ``max_tokens`` is cut at its last line.

        Raises:
            ConfigError: ``candidates`` or ``drafts`` is above 1, and ``reader`` does not read contents like z.
        """
        n = self.config.candidates
        if n == 1 or z is None:
            return self._drawn(z, u, rng, count)
        many = self._drawn(np.repeat(z, n, axis=0), None if u is None else np.repeat(u, n, axis=0), rng, None)
        return [many[row] for row in closest(many, z, self.reader)]

    def _drawn(
        self,
        z: Array | None,
        u: Array | None,
        rng: np.random.Generator,
        count: int | None,
        told: Callable[[list[list[int]]], None] | None = None,
    ) -> list[str]:
        begun: list[list[int]] | None = None
        if self.config.drafts > 1 and z is not None:
            begun = self._openings(z, u, rng)
        rows = self._sampled(z, u, rng, count, SKELETONS[self.config.skeleton], begun, told)
        return [self._text(self._ids(OPENING) + row) for row in rows]

    def _openings(self, z: Array, u: Array | None, rng: np.random.Generator) -> list[list[int]]:
        """For each row of z the tokens of the nearest of several openings, up to the mark after the description."""
        n, (*before, last) = self.config.drafts, FRONT
        many = np.repeat(z, n, axis=0), None if u is None else np.repeat(u, n, axis=0)
        rows = self._sampled(*many, rng, None, (*before, replace(last, after="")), None, None)
        opening, close = self._ids(OPENING), self._ids(last.after)
        rows = [row[:-1] if row[-1] == self.end else row for row in rows]
        texts = [f"{self._text(opening + row, whole=True).rstrip()}\n---\n" for row in rows]
        return [rows[row] + close for row in closest(texts, z, self.reader)]

    def _sampled(
        self,
        z: Array | None,
        u: Array | None,
        rng: np.random.Generator,
        count: int | None,
        lines: tuple[Line, ...],
        begun: list[list[int]] | None,
        told: Callable[[list[list[int]]], None] | None,
    ) -> list[list[int]]:
        import torch

        from hare_agents.decoders.sampling import sample

        c = self.config
        given = any(v is not None and np.isfinite(v).any() for v in (z, u))
        with torch.no_grad():
            prompts = self._prompt(z, u, count)
            free = self._prompt(None, None, len(prompts)) if given and c.guidance != 1.0 else None
        return sample(
            self.model,
            prompts,
            free,
            Skeleton(self._words, lines, len(prompts)) if lines else None,
            limit=c.max_tokens - len(self._ids(OPENING)),
            end=self.end,
            seed=int(rng.integers(2**63)),
            temperature=c.temperature,
            top_k=c.top_k,
            top_p=c.top_p,
            guidance=c.guidance,
            no_repeat=c.no_repeat,
            begun=begun,
            told=told,
        )

    def _prompt(self, z: Array | None, u: Array | None, count: int | None) -> torch.Tensor:
        import torch

        start = self._virtual(z, u, count)
        opening = self._tensor([self._ids(OPENING)] * len(start))
        return torch.cat([start, self._embed(opening)], dim=1)

    @cached_property
    def _words(self) -> Vocabulary:
        return Vocabulary(self.tokenizer, self._ids, self.end)

    def _text(self, ids: list[int], whole: bool = False) -> str:
        ended = whole or self.end in ids
        text: str = self.tokenizer.decode(
            ids[: ids.index(self.end)] if self.end in ids else ids, skip_special_tokens=True
        )
        if not ended and "\n" in text:
            text = text[: text.rindex("\n")]
        return text.strip() + "\n"

    # --- likelihood

    def perplexity(
        self, texts: Sequence[str], z: Array | None = None, u: Array | None = None, batch_size: int = 16
    ) -> Likelihood:
        """How well the decoder predicts texts.

        Args:
            texts: SKILL.md files, n of them; what is not name, description and body is left out.
            z: Their contents, ``(n, content_dim)``; shuffle them to see what right ones are worth; None for none.
            u: Their users' states, ``(n, content_dim)``, or None.
            batch_size: Texts at a time.

        Returns:
            Loss, tokens and bytes of each text.
        """
        plain = [plain_text(text) for text in texts]
        rows = [self._row(text) for text in plain]
        return Likelihood(
            self._nats(rows, z, u, batch_size),
            np.array([len(row) for row in rows], dtype=np.float64),
            np.array([len(text.encode()) for text in plain], dtype=np.float64),
        )

    def _nats(self, rows: Sequence[Sequence[int]], z: Array | None, u: Array | None, batch_size: int = 16) -> Array:
        """Negative log-likelihood of rows of tokens, ``(n,)``."""
        import torch

        nats = []
        self.model.eval()
        with torch.no_grad():
            for at in range(0, len(rows), batch_size):
                part = slice(at, at + batch_size)
                logp, mask = self.log_probabilities(
                    rows[part], None if z is None else z[part], None if u is None else u[part]
                )
                nats.append(-(logp * mask).sum(1).double().cpu().numpy())
        return np.concatenate(nats)

    def log_probabilities(
        self, rows: Sequence[Sequence[int]], z: Array | None, u: Array | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """What each token of given rows was worth to the model; gradients flow.

        Args:
            rows: Token ids, B rows (see `rows_of`).
            z: ``(B, content_dim)`` or None.
            u: ``(B, content_dim)`` or None.

        Returns:
            Log-probabilities ``(B, T)`` of the tokens, and a mask of the same shape that is 0 on padding.
        """
        import torch

        ids, mask, logits = self.logits(rows, z, u)
        # flat: a softmax over an axis in the middle costs more than the rest of a small model
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids.flatten(), reduction="none")
        return -loss.view_as(ids), mask

    def logits(
        self, rows: Sequence[Sequence[int]], z: Array | None, u: Array | None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """What the model says at each place of given rows; arguments as for `log_probabilities`.

        Returns:
            Token ids ``(B, T)``, filled up with the end token, a mask of the same shape that is 0 on what was filled
            up, and the logits ``(B, T, vocabulary)``.
        """
        import torch

        longest = max(len(row) for row in rows)
        ids = self._tensor([[*row, *[self.end] * (longest - len(row))] for row in rows])
        mask = self._tensor([[1.0] * len(row) + [0.0] * (longest - len(row)) for row in rows], dtype=torch.float32)
        start = self._virtual(z, u, len(rows))
        embeddings = torch.cat([start, self._embed(ids[:, :-1])], dim=1)
        # padding stands to the right of everything that is asked about, so a causal model needs no mask of it
        said = self.model(inputs_embeds=embeddings, use_cache=False, logits_to_keep=longest)
        return ids, mask, said.logits[:, -longest:].float()  # a model without that option says more

    def rows_of(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of texts, each cut to ``max_tokens`` with its end token."""
        return [self._row(plain_text(text)) for text in texts]

    # --- learning

    def train(
        self, pairs: Sequence[Pair], progress: Callable[[int, int, float], None] | None = None, **knobs: Any
    ) -> list[float]:
        """Learns to write each pair's text for its vectors, by the causal loss.

        Args:
            pairs: At least two; the standardisation of z and u is that of their z.
            progress: Called with the step, the number of steps and the loss a token.
            knobs: Of `TrainingConfig`.

        Returns:
            The loss at each step, in nats a token, with the frontmatter's weight.

        Raises:
            DataError: Fewer than two pairs, or vectors of the wrong length or not finite.
            UnknownNameError: No such knob.
            ConfigError: A knob out of range.
        """
        return train(self, pairs, progress, **knobs)

    def standardise(self, Z: Array) -> None:
        """Takes mean and deviation of given contents, ``(n, content_dim)``, for those of z and u."""
        self.z_mean, self.z_std = Z.mean(0), np.where(Z.std(0) > 1e-6, Z.std(0), 1.0)

    def model_parameters(self) -> list[Any]:
        """What is trained of the model itself: all of it, or its LoRA."""
        return [p for p in self.model.parameters() if p.requires_grad]

    def parameters(self) -> list[Any]:
        """Everything that is trained: the model (or its LoRA) and the prefix."""
        return [*self.model_parameters(), *self.prefix.parameters()]

    # --- files

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Writes a checkpoint: safetensors, the tokenizer and ``decoder.json``. A LoRA is kept without its model."""
        from safetensors.torch import save_file

        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        with quiet():
            if self.config.lora_rank:
                self.model.save_pretrained(folder / ADAPTER_FOLDER)
            else:
                self.model.save_pretrained(folder)
                self.tokenizer.save_pretrained(folder)
        tensors = {key: value.detach().cpu().contiguous() for key, value in self.prefix.state_dict().items()}
        save_file(tensors, folder / PREFIX_FILE)
        for path in folder.rglob("*.safetensors"):
            path.chmod(0o644)  # safetensors makes files that only their owner can read
        facts = {
            "name": self.name,
            "base": self.base,
            "content_dim": self.content_dim,
            "z_mean": self.z_mean.tolist(),
            "z_std": self.z_std.tolist(),
            "config": asdict(self.config),
        }
        (folder / CONFIG_FILE).write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: str | os.PathLike[str], device: str = "cpu", **knobs: Any) -> ConditionedDecoder:
        """Reads what `save` wrote.

        Args:
            folder: The checkpoint's folder.
            device: ``cpu``, ``cuda``, ...
            knobs: Of `LanguageModelConfig`, instead of those it was saved with (temperature, max_tokens, ...).

        Raises:
            ConfigError: The folder holds no checkpoint.
            UnknownNameError: No such knob.
        """
        from safetensors.torch import load_file

        folder = Path(folder).expanduser()
        if not (folder / CONFIG_FILE).is_file():
            remedy = "give a folder that ConditionedDecoder.save wrote."
            if (folder / "config.json").is_file():
                remedy = f"the model in it has not learned to write for vectors; hare models train --base {folder}"
            raise ConfigError(f"{str(folder)!r} holds no trained decoder ({CONFIG_FILE} is missing): {remedy}")
        facts = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
        config = configure(LanguageModelConfig, facts["config"] | knobs, f"decoder {facts['name']!r}")
        model, tokenizer = load_model(facts["base"] if config.lora_rank else str(folder), device)
        decoder = cls(model, tokenizer, facts["content_dim"], config, facts["name"], facts["base"])
        if config.lora_rank:
            decoder.model.load_adapter(folder / ADAPTER_FOLDER, adapter_name="default", is_trainable=True)
        decoder.prefix.load_state_dict(load_file(folder / PREFIX_FILE, device=device))
        decoder.z_mean, decoder.z_std = np.array(facts["z_mean"]), np.array(facts["z_std"])
        return decoder

    # --- inside

    @property
    def _embed(self) -> Any:
        return self.model.get_input_embeddings()

    def devices(self) -> list[Any]:
        """What torch must fork to keep its generators as they were, besides the CPU."""
        device = self._embed.weight.device
        return [device] if device.type == "cuda" else []

    def _tensor(self, rows: Any, dtype: Any = None) -> torch.Tensor:
        import torch

        return torch.tensor(rows, dtype=dtype, device=self._embed.weight.device)

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer.encode(text, add_special_tokens=False)
        return ids

    def _row(self, text: str) -> list[int]:
        return [*self._ids(text)[: self.config.max_tokens - 1], self.end]

    def front_of(self, row: list[int]) -> int:
        """How many tokens of a row are frontmatter."""
        close = self._ids("\n---\n\n#")
        for at in range(1, len(row) - len(close) + 1):
            if row[at : at + len(close)] == close:
                return at + len(close)
        return 0

    def _virtual(self, z: Array | None, u: Array | None, count: int | None) -> torch.Tensor:
        """The virtual tokens, ``(B, virtual_tokens, width)``; a row of NaN is a vector nobody gave."""
        import torch

        if count is None:
            given = z if z is not None else u
            count = 1 if given is None else len(given)
        parts = []
        for letter, vectors in (("z", z), ("u", u)):
            V = np.full((count, self.content_dim), np.nan) if vectors is None else np.asarray(vectors, np.float64)
            if V.shape != (count, self.content_dim):
                raise DataError(
                    f"{self.name!r} takes vectors of the shape ({count}, {self.content_dim}), not {V.shape}."
                )
            if letter == "u":
                V = self._as_content(V)
            V = np.clip((V - self.z_mean) / self.z_std, -_CLIP, _CLIP)
            known = ~np.isnan(V).any(axis=1, keepdims=True)
            parts += [np.where(known, V, 0.0), known]
        x = self._tensor(np.concatenate(parts, axis=1), dtype=torch.float32)
        tokens = self.prefix(x).view(count, self.config.virtual_tokens, -1)
        virtual: torch.Tensor = tokens.to(self._embed.weight.dtype)
        return virtual

    def _as_content(self, U: Array) -> Array:
        """User states as contents: zeros are nothing known, and what is longer than contents are is shortened."""
        lengths = np.linalg.norm(U, axis=1, keepdims=True)
        usual = math.sqrt(float((self.z_mean**2 + self.z_std**2).sum()))
        return np.where(lengths > 0.0, U * np.minimum(1.0, usual / np.maximum(lengths, 1e-12)), np.nan)


def plain_text(text: str) -> str:
    """A skill with name, description and body only: what a decoder learns to write.

    A text that is no valid skill is left as it is.
    """
    try:
        skill = parse(text)
    except SkillError:
        return text.strip() + "\n"
    return render(Skill(skill.name, skill.description, skill.body))


def _prefix(content_dim: int, config: LanguageModelConfig, width: int, size: float) -> Any:
    """The MLP from z ⊕ [z known] ⊕ u ⊕ [u known] to the virtual tokens."""
    import torch
    from torch import nn

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        to_hidden = nn.Linear(2 * content_dim + 2, config.hidden)
        to_tokens = nn.Linear(config.hidden, config.virtual_tokens * width)
        with torch.no_grad():
            # standardised inputs, hidden units of size about one half: virtual tokens of the size asked for
            nn.init.normal_(to_hidden.weight, std=1 / math.sqrt(2 * content_dim))
            nn.init.normal_(to_tokens.weight, std=2 * size / math.sqrt(config.hidden))
            nn.init.zeros_(to_tokens.bias)
    return nn.Sequential(to_hidden, nn.GELU(), to_tokens)


def _with_lora(model: Any, rank: int) -> Any:
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError:
        raise MissingPackageError("lora_rank needs the package peft: pip install 'hare-gym[lm]'.") from None
    config = LoraConfig(
        r=rank, lora_alpha=2 * rank, lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM"
    )
    return get_peft_model(model, config)
