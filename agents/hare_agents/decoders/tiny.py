"""The tiny language model: a small GPT-2, trained from scratch on the built-in corpus, shipped with the package.

It is there so that the whole language-model path works right after ``pip install``, with no network: a test of the
path, and a baseline. It has seen about a hundred thousand tokens in all, so its sentences have the words of their
domain and the shape of a skill, and seldom an argument. ``hare models train-tiny`` makes its weights.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hare_agents.decoders.language_model import ConditionedDecoder, LanguageModelConfig, plain_text
from hare_agents.decoders.skeleton import STEPS, TRIGGERS
from hare_agents.decoders.training import Pair
from hare_gym.config import configure
from hare_gym.errors import DataError
from hare_gym.text.corpus import load_corpus
from hare_gym.text.measure import Measurer
from hare_gym.text.skills import Skill, make_skill

Array = NDArray[np.float64]

VOCABULARY, LAYERS, WIDTH, HEADS = 4096, 2, 128, 4
END = "<|end|>"
MARKS = (
    "---\nname:",
    "\ndescription:",
    "\n---\n\n#",
    "\n\n## When to use\n\n-",
    "\n\n## Instructions\n\n",
    "\n\n## Examples\n\n**Request:**",
    "\n\n**Response:**",
)
"""The layout of a skill, one token each."""
TRAINING: dict[str, Any] = {"epochs": 9, "batch_size": 4, "lr": 4e-3, "prefix_lr": 4e-3, "weight_decay": 0.1}
DECODING: dict[str, Any] = {"skeleton": "short", "temperature": 0.5, "no_repeat": 5}


def train_tokenizer(texts: Sequence[str], vocabulary: int = VOCABULARY) -> Any:
    """Byte-level BPE (Sennrich et al., 2016) fitted to texts.

    Args:
        texts: What it should be short on.
        vocabulary: Tokens, the end token and the 256 bytes included.

    Returns:
        A fast tokenizer of transformers.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary - len(MARKS),
        special_tokens=[END],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator([_without_marks(text) for text in texts], trainer)
    tokenizer.add_tokens([AddedToken(mark, normalized=False) for mark in MARKS])
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer, eos_token=END
    )


def make_tiny(
    texts: Sequence[str], Z: Array, layers: int = LAYERS, width: int = WIDTH, **knobs: Any
) -> ConditionedDecoder:
    """A tiny decoder before training: its tokenizer and its first weights come from counts in texts.

    Args:
        texts: SKILL.md files, n of them.
        Z: Their contents, ``(n, content_dim)``.
        layers: Of the GPT-2.
        width: Of the GPT-2.
        knobs: Of `LanguageModelConfig`.
    """
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    config = configure(
        LanguageModelConfig, DECODING | {"hidden": 64, "prefix_scale": 1.0} | knobs, "the tiny decoder"
    )
    tokenizer = train_tokenizer([plain_text(text) for text in texts])
    shape = GPT2Config(
        vocab_size=len(tokenizer),
        n_positions=config.virtual_tokens + config.max_tokens,
        n_embd=width,
        n_layer=layers,
        n_head=HEADS,
        activation_function="gelu_pytorch_tanh",  # GPT-2's own, in one step
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=tokenizer.eos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        tie_word_embeddings=False,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = GPT2LMHeadModel(shape)
    decoder = ConditionedDecoder(model, tokenizer, Z.shape[1], config, "tiny")
    decoder.standardise(Z)
    _start_from_counts(decoder, decoder.rows_of(texts), (Z - decoder.z_mean) / decoder.z_std)
    return decoder


def _start_from_counts(decoder: ConditionedDecoder, rows: list[list[int]], X: Array) -> None:
    """Sets the first weights so that the model begins as bigrams times words of the content.

    A quarter of a minute does not teach a random network to read its prefix. So it begins as a log-linear model
    log p(t | s, x) = log p(t) + PMI(s, t) + x B_t, written into the weights of GPT-2: the token vectors and the
    output are the singular vectors of the shrunk bigram PMI (Levy and Goldberg, 2014); the virtual tokens carry the
    leading directions of x B, the first attention head copies them to every place, and the output adds what they say
    of each token. Training then changes all of it.

    Args:
        decoder: An untrained tiny decoder.
        rows: Token ids of the texts.
        X: Their standardised contents, ``(n, content_dim)``.
    """
    import torch
    from sklearn.utils.extmath import randomized_svd

    V, W, d = len(decoder.tokenizer), decoder.model.config.n_embd, decoder.content_dim
    k = min(_DIRECTIONS, d, W // HEADS)
    own = 2 + k  # the residual stream's places: a constant, the prefix's mark, k directions of x, then bigrams
    C, N = np.zeros((V, V)), np.zeros((len(rows), V))
    for i, row in enumerate(rows):
        np.add.at(C, (row[:-1], row[1:]), 1)
        np.add.at(N[i], row, 1)
    p = N.sum(0) + 0.5
    p /= p.sum()
    n = C.sum(1)
    pmi = np.log((C + _SHRINK * p) / (n[:, None] + _SHRINK) / p)
    w = np.sqrt(n / n.sum() + 1e-4)
    U, S, Vt = randomized_svd(w[:, None] * pmi * np.sqrt(p), W - own, random_state=0)
    E, F = U * S / w[:, None], Vt.T / np.sqrt(p)[:, None]
    size = np.median(np.linalg.norm(E, axis=1)) / np.sqrt(W)  # the last layer norm makes it one
    E, F = E / size * _TOKEN_SIZE, F * size

    expected = N.sum(1, keepdims=True) * p
    seen = N.sum(0) / (N.sum(0) + _RARE * len(rows))
    B = np.linalg.solve(X.T @ X + 0.1 * len(X) * np.eye(d), X.T @ ((N - expected) / expected.mean(0))) * seen
    P, S, Q = np.linalg.svd(B * np.sqrt(p), full_matrices=False)
    deviation = np.maximum((X @ P[:, :k]).std(0), 1e-6)
    P, Q = P[:, :k] / deviation, (deviation * S[:k])[:, None] * Q[:k] / np.sqrt(p)

    def tensor(values: Array) -> torch.Tensor:
        return torch.tensor(values, dtype=torch.float32)

    transformer, attention = decoder.model.transformer, decoder.model.transformer.h[0].attn
    to_hidden, to_tokens = decoder.prefix[0], decoder.prefix[2]
    with torch.no_grad():
        transformer.wte.weight[:, :own] = 0
        transformer.wte.weight[:, own:] = tensor(E)
        transformer.wpe.weight[:, :own] = 0
        head = decoder.model.lm_head.weight
        head[:, 0] = tensor(np.log(p) - np.log(p).mean())
        head[:, 1] = 0
        head[:, 2:own] = tensor(Q.T) * _CONTENT_GAIN * _TOKEN_SIZE / _COPY_SIZE
        head[:, own:] = tensor(F)
        transformer.ln_f.weight[0] = 0
        transformer.ln_f.bias[0] = 1
        # the first head looks for the prefix's mark, and copies the k directions
        attention.c_attn.weight[:, [0, W]] = 0
        attention.c_attn.weight[:, 2 * W : 2 * W + k] = 0
        attention.c_attn.bias[0] = 4
        attention.c_attn.weight[1, W] = 1
        attention.c_proj.weight[:k] = 0
        each = torch.arange(k)
        attention.c_attn.weight[2 + each, 2 * W + each] = 1
        attention.c_proj.weight[each, 2 + each] = _COPY_SIZE
        # gelu(a) - gelu(-a) = a: the MLP begins with a linear part
        to_hidden.weight[: 2 * k] = 0
        to_hidden.weight[:k, :d] = tensor(P.T)
        to_hidden.weight[k : 2 * k, :d] = -tensor(P.T)
        to_hidden.bias[: 2 * k] = 0
        out = to_tokens.weight.view(decoder.config.virtual_tokens, W, -1)
        out[:, :own] = 0
        out[:, :, : 2 * k] = 0
        out[:, 2 + each, each] = 0.8
        out[:, 2 + each, k + each] = -0.8
        to_tokens.bias.view(-1, W)[:, 1] = 8


_DIRECTIONS, _SHRINK, _RARE = 16, 20.0, 10 / 168
_TOKEN_SIZE, _COPY_SIZE, _CONTENT_GAIN = 0.3, 0.25, 1.5


def contents() -> Array:
    """The content vectors of the built-in corpus, ``(192, 17)``, as `HareSkills-v0` has them in its pool."""
    return np.stack([item.phi for item in Measurer().items(load_corpus())])


def held_out(count: int) -> NDArray[np.bool_]:
    """Which of the corpus's skills are never trained on: every eighth, another place in each domain."""
    place = np.arange(count)
    return np.asarray(place % 8 == (place // 24) % 8)


def pairs_of(
    skills: Sequence[Skill], Z: Array, variants: int, rng: np.random.Generator, noise: float = 0.15
) -> list[Pair]:
    """Short skills to learn from, ``variants`` of each, with its content and the state of a user who would want it.

    Args:
        skills: n skills.
        Z: Their contents, ``(n, content_dim)``.
        variants: Short skills of each (see `short_skill`).
        rng: Draws the parts, the noise and the users.
        noise: Deviation that is added to each content, in deviations of Z.
    """
    deviation = Z.std(0)
    pairs = []
    for _ in range(variants):
        for i, skill in enumerate(skills):
            nearest = np.argsort(((Z - Z[i]) ** 2).sum(1))[:12]
            u = Z[rng.choice(nearest, 3)].mean(0)  # what a user has liked so far
            z = Z[i] + noise * deviation * rng.standard_normal(Z.shape[1])
            pairs.append(Pair(z, short_skill(skill, rng), u))
    return pairs


def train_tiny(
    skills: Sequence[Skill] = (),
    Z: Array | None = None,
    seed: int = 0,
    progress: Callable[[int, int, float], None] | None = None,
    **knobs: Any,
) -> ConditionedDecoder:
    """Trains the tiny decoder from nothing, in under a minute of two cores.

    Args:
        skills: What to learn from; the built-in corpus without its `held_out` skills by default.
        Z: Their contents, ``(n, content_dim)``; needed with ``skills``.
        seed: Of everything that is drawn.
        progress: As for `ConditionedDecoder.train`.
        knobs: Of `TrainingConfig`; ``epochs`` is how many short skills are made of each skill.

    Returns:
        The decoder, named ``tiny``.

    Raises:
        DataError: Not one content for each skill.
    """
    import torch

    if not skills:
        corpus = load_corpus().skills
        taught = ~held_out(len(corpus))
        skills, Z = [skill for skill, known in zip(corpus, taught, strict=True) if known], contents()[taught]
    if Z is None or len(Z) != len(skills):
        raise DataError(f"{len(skills)} skills need as many contents, one row each.")
    knobs = TRAINING | knobs
    pairs = pairs_of(skills, Z, int(knobs.pop("epochs")), np.random.default_rng(seed))
    threads = torch.get_num_threads()
    torch.set_num_threads(2)  # here and everywhere: sums in another order give other weights
    try:
        decoder = make_tiny([pair.text for pair in pairs], np.stack([pair.z for pair in pairs]))
        decoder.train(pairs, progress, epochs=1, seed=seed, **knobs)
    finally:
        torch.set_num_threads(threads)
    return decoder


def _without_marks(text: str) -> str:
    for mark in MARKS:
        text = text.replace(mark, "\n")
    return text


def short_skill(skill: Skill, rng: np.random.Generator) -> str:
    """A shorter skill out of the parts of one: three triggers, four steps, an example.

    Each call draws other triggers and steps, so that a model that learns from several sees all of them.
    """
    items = [match for line in skill.instructions.split("\n") if (match := _ITEM.match(line))]
    items = [items[i] for i in _some(len(items), STEPS, rng)]
    steps = [
        f"{n}. {_opening(item[2])}" if item[1][0].isdigit() else f"{item[1]} {_opening(item[2])}"
        for n, item in enumerate(items, 1)
    ]
    request, _, response = "".join(skill.examples[:1]).partition("**Response:**")
    example = f"{_opening(request.strip())}\n\n**Response:** {_opening(response.strip(), 2)}" if response else ""
    short = make_skill(
        skill.name,
        skill.description,
        title=skill.title,
        triggers=[skill.triggers[i] for i in _some(len(skill.triggers), TRIGGERS, rng)],
        instructions="\n".join(steps) or _opening(skill.instructions, STEPS),
        examples=[example] if example else [],
    )
    return short.text


_ITEM = re.compile(r"\s{0,3}(- \[ \]|[-*]|\d+[.)])\s+(\S.*)")
_SENTENCE = re.compile(r"(?<=[.?!])\s+(?=[A-Z\"'`])")


def _opening(text: str, sentences: int = 1) -> str:
    return " ".join(_SENTENCE.split(text.replace("\n", " "))[:sentences])


def _some(available: int, count: int, rng: np.random.Generator) -> list[int]:
    return sorted(rng.choice(available, min(count, available), replace=False).tolist())
