"""A second reward model, learned from simulated users' choices between two texts, to check the first by.

Variational preference learning (Poddar et al. 2024): an encoder turns a few of a user's choices into a Gaussian over
an embedding z, a reward network scores a text for a query given z, and both are trained on the evidence lower bound
of the choices. It sees a text as the sentence encoder's own embedding and surface counts, not as the coordinates and
measures that the first model is made of, and neither a user's attributes nor anything's labels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import spearmanr
from torch import Tensor, nn
from torch.nn import functional

from hare_evaluation.runner import one_thread, seeds
from hare_gym.config import configure
from hare_gym.text.calibrate import queries
from hare_gym.text.corpus import load_corpus
from hare_gym.text.measure import Measured, Measurer, sections_of
from hare_gym.text.reward import RewardModel
from hare_gym.text.skills import Skill, SkillError, make_skill, parse
from hare_gym.text.space import SECTION_WEIGHTS, SEMANTIC, THEME
from hare_gym.text.units import units_of
from hare_gym.text.users import Users

Array = NDArray[np.float64]
Indices = NDArray[np.int64]


@dataclass(frozen=True)
class LearnedConfig:
    """How the second reward model is trained and tested.

    Attributes:
        users: Simulated users to train on.
        held_out_users: Users to test on.
        held_out: Share of the items, and of the queries, that are left for the test.
        blends: Texts made of lines of two items, beside the items themselves; those of the test are made of held-out
            items alone.
        choices: Choices that a user's embedding is made from.
        targets: Choices that are predicted for a user in a step.
        batch: Users in a step.
        shown: Texts that a step's choices are between.
        steps: Steps of AdamW.
        rate: The largest learning rate of the one cycle.
        decay: Weight decay.
        dropout: Share of a text's and a query's features that a step leaves out.
        width: Units of a hidden layer.
        latent: Length of z.
        sharpness: A user prefers text a with probability sigmoid(sharpness (mu_a - mu_b)).
        divergence: Weight of the KL divergence of z from a standard normal.
    """

    users: int = 1000
    held_out_users: int = 40
    held_out: float = 0.25
    blends: int = 1200
    choices: int = 64
    targets: int = 32
    batch: int = 48
    shown: int = 256
    steps: int = 2500
    rate: float = 2e-3
    decay: float = 0.03
    dropout: float = 0.1
    width: int = 128
    latent: int = 16
    sharpness: float = 20.0
    divergence: float = 1e-3


def blended(skills: Sequence[Skill], rng: np.random.Generator, n: int) -> list[str]:
    """Texts whose sections mix the lines of two skills of any kind.

    Args:
        skills: Where the lines are from.
        rng: Draws the skills and the lines.
        n: How many.
    """
    texts: list[str] = []
    while len(texts) < n:
        a, b = (skills[int(i)] for i in rng.choice(len(skills), 2, replace=False))
        share = rng.uniform(0.2, 0.8)
        head = a if share > 0.5 else b
        try:
            skill = make_skill(
                head.name,
                head.description,
                title=head.title,
                triggers=_mixed(a.triggers, b.triggers, share, least=2),
                instructions="\n".join(_mixed(_lines(a), _lines(b), share, least=3)),
                examples=head.examples,
            )
        except SkillError:
            continue
        texts.append(skill.text)
    return texts


def _lines(skill: Skill) -> list[str]:
    return [line for line in skill.instructions.split("\n") if line.strip()]


def _mixed(first: Sequence[str], second: Sequence[str], share: float, least: int) -> tuple[str, ...]:
    found = (*first[: round(share * len(first))], *second[: round((1.0 - share) * len(second))])
    return found if len(found) >= least else tuple(first)


def raw_features(measurer: Measurer, measured: Sequence[Measured]) -> Array:
    """What the second model sees of texts, ``(n, 202)``.

    Returns:
        The weighted mean of the sections' coordinates (36), `hare_gym.text.units.SURFACE` (17), the logarithms of the
        numbers of units by section and of words (5), and each section's mean coordinates (144).
    """

    def row(m: Measured) -> Array:
        units = units_of(m.skill or parse(m.text, lenient=True))
        sections = sections_of(units)
        means = [measurer.coordinates(part).mean(axis=0) if part else np.zeros(THEME.stop) for part in sections]
        whole = np.array(list(SECTION_WEIGHTS.values())) @ np.array(means)
        return np.concatenate([whole, units.surface, np.log1p([*map(len, sections), units.words]), *means])

    return np.array([row(m) for m in measured])


def _standardised(x: Array, known: int) -> Array:
    """Columns with mean zero and deviation one over the first rows, at most 3 deviations."""
    deviation = np.maximum(x[:known].std(axis=0), 1e-9)
    return np.asarray(((x - x[:known].mean(axis=0)) / deviation).clip(-3.0, 3.0))


@dataclass(frozen=True)
class Choices:
    """What users preferred: positions among the texts and the queries that were shown, ``(B, m)`` each."""

    better: Tensor
    worse: Tensor
    query: Tensor


@dataclass(frozen=True, eq=False)
class World:
    """Users, texts and queries with the first model's rewards; of each the last ones are left for the test.

    Attributes:
        texts: Features, ``(N, d)``.
        queries: Features, ``(Q, p)``.
        log_user: Log reward but for relevance, by user and text, ``(U, N)``.
        log_query: Log relevance, weighted, by query and text, ``(Q, N)``.
        known: How many texts, queries and users are to train on.
    """

    texts: Tensor
    queries: Tensor
    log_user: Array
    log_query: Array
    known: tuple[int, int, int]

    def reward(self, user: Indices, query: Indices, text: Indices) -> Array:
        """The first model's expected reward; the indices broadcast."""
        return np.asarray(np.exp(self.log_user[user, text] + self.log_query[query, text]))

    def choices(
        self, rng: np.random.Generator, users: Indices, texts: Indices, queries: Indices, m: int, sharpness: float
    ) -> Choices:
        """Draws m choices of each user between two of the texts for one of the queries."""
        shape = (len(users), m)
        a, b = rng.integers(0, len(texts), (2, *shape))
        query = rng.integers(0, len(queries), shape)
        gain = self.gain(users, texts[a], texts[b], queries[query])
        prefers = rng.random(shape) < 1.0 / (1.0 + np.exp(-sharpness * gain))
        better, worse = np.where(prefers, a, b), np.where(prefers, b, a)
        return Choices(torch.tensor(better), torch.tensor(worse), torch.tensor(query))

    def gain(self, users: Indices, a: Indices, b: Indices, query: Indices) -> Array:
        """How much more texts a earn than texts b, ``(B, m)`` each, with the first model and each of the users."""
        return self.reward(users[:, None], query, a) - self.reward(users[:, None], query, b)


def make_world(c: LearnedConfig, rng: np.random.Generator) -> World:
    """Draws the users and the texts, and asks the first model for every reward."""
    skills, model = load_corpus().skills, RewardModel()
    measurer = Measurer(pool=[skill.text for skill in skills])
    kept = round((1.0 - c.held_out) * len(skills))
    order = rng.permutation(len(skills))
    train, test = ([skills[int(i)] for i in part] for part in (order[:kept], order[kept:]))
    known = [s.text for s in train] + blended(train, rng, round((1.0 - c.held_out) * c.blends))
    texts = known + [s.text for s in test] + blended(test, rng, round(c.held_out * c.blends))
    measured = [measurer.text(text) for text in texts]
    built_in = queries()
    asked = [built_in[int(i)].text for i in rng.permutation(len(built_in))]
    num_queries = round((1.0 - c.held_out) * len(asked))
    users = Users.draw(rng, c.users + c.held_out_users)
    # in portions, because every user with every text and domain is hundreds of megabytes
    log_user = np.concatenate([model.user_table(users[k : k + 200], measured) for k in range(0, len(users), 200)])
    vectors = np.array([measurer.query(text) for text in asked])
    return World(
        torch.tensor(_standardised(raw_features(measurer, measured), len(known)), dtype=torch.float32),
        torch.tensor(_standardised(vectors[:, SEMANTIC], num_queries), dtype=torch.float32),
        log_user,
        model.query_table(vectors, measured),
        (len(known), num_queries, c.users),
    )


class LearnedReward(nn.Module):
    """The reward network, r = sigmoid(f(text) . g(z) + h(text) . k(query)), and the encoder of choices.

    Args:
        text_dim: Features of a text.
        query_dim: Features of a query.
        c: Sizes.
    """

    def __init__(self, text_dim: int, query_dim: int, c: LearnedConfig) -> None:
        super().__init__()
        self.text = nn.Sequential(
            nn.Dropout(c.dropout), nn.Linear(text_dim, c.width), nn.ReLU(), nn.Linear(c.width, 3 * c.width)
        )
        self.query = _perceptron(query_dim, c.width, c.width)
        self.choices = _perceptron(c.width, c.width, 2 * c.latent)
        self.user = _perceptron(c.latent, c.width, c.width)
        self.scale = nn.Parameter(torch.tensor(2.0))

    def read(self, texts: Tensor, queries: Tensor) -> tuple[Tensor, Tensor]:
        """What texts, ``(N, 3 width)``, and queries, ``(Q, width)``, look like to the rest of the network."""
        return self.text(texts), self.query(queries)

    def posterior(self, texts: Tensor, choices: Choices) -> tuple[Tensor, Tensor]:
        """Mean and log variance of z, ``(B, latent)`` each, after a user's choices; their order plays no part."""
        seen = texts.chunk(3, dim=-1)[0]
        preferred = (seen[choices.better] - seen[choices.worse]).mean(dim=1)
        mean, log_variance = self.choices(preferred).chunk(2, dim=-1)
        return mean, log_variance.clamp(-8.0, 4.0)

    def forward(self, texts: Tensor, queries: Tensor, z: Tensor, text: Tensor, query: Tensor) -> Tensor:
        """Rewards, ``(B, m)``, of texts for queries, at positions ``(B, m)``, for users with embeddings z."""
        _, wanted, asked = texts.chunk(3, dim=-1)
        fit = torch.einsum("bmk,bk->bm", wanted[text], self.user(z))
        return torch.sigmoid((fit + (asked @ queries.T)[text, query]) / wanted.shape[1] ** 0.5)


def _perceptron(inputs: int, width: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, width), nn.ReLU(), nn.Linear(width, outputs))


def trained(
    world: World, c: LearnedConfig, rng: np.random.Generator, log: Callable[[str], None] | None = None
) -> LearnedReward:
    """Trains the second model on the choices of the training users between the training texts."""
    num_texts, num_queries, num_users = world.known
    asked = np.arange(num_queries)
    net = LearnedReward(world.texts.shape[1], world.queries.shape[1], c)
    optimiser = torch.optim.AdamW(net.parameters(), lr=c.rate, weight_decay=c.decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, c.rate, total_steps=c.steps)
    for step in range(1, c.steps + 1):
        users = rng.integers(0, num_users, c.batch)
        shown = rng.permutation(num_texts)[: c.shown]
        seen, target = (world.choices(rng, users, shown, asked, m, c.sharpness) for m in (c.choices, c.targets))
        hidden = net.read(world.texts[shown], world.queries[:num_queries])
        mean, log_variance = net.posterior(hidden[0], seen)
        z = mean + torch.exp(0.5 * log_variance) * torch.randn_like(mean)
        better, worse = (net(*hidden, z, text, target.query) for text in (target.better, target.worse))
        divergence = 0.5 * (mean.square() + log_variance.exp() - 1.0 - log_variance).sum(dim=-1).mean()
        loss = c.divergence * divergence - functional.logsigmoid(net.scale.exp() * (better - worse)).mean()
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
        if log is not None and step % 500 == 0:
            log(f"step {step}: loss {loss.item():.3f}")
    return net.eval()


def agreement(seed: int = 0, log: Callable[[str], None] | None = None, **config: Any) -> dict[str, float]:
    """Trains the second model and compares its ranking with the first one's, all on what it has not seen.

    Users, texts (held-out items and blends of them) and queries of the comparison are held out; what the second model
    is told of a held-out user are some choices between training texts.

    Args:
        seed: Index in the seed set "tuning", for everything drawn.
        log: Called with a line of progress now and then.
        **config: Fields of `LearnedConfig`.

    Returns:
        ``spearman``: mean over held-out users and five queries of each of the rank correlation of the two models over
        the held-out texts; ``low_user``: its 5% quantile over users; ``stranger``: the same when the second model is
        given another user's choices; ``accuracy``: share of held-out choices that it predicts; ``ceiling``: the share
        that the first model predicts, as choices are noisy; ``texts`` and ``held_out``: numbers of texts trained on
        and compared on.
    """
    c = configure(LearnedConfig, config, "the learned reward model")
    torch_seed, rng = seeds("tuning", seed)
    world = make_world(c, rng)
    with one_thread(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(torch_seed)
        net = trained(world, c, rng, log)
        return compared(net, world, c, rng)


@torch.no_grad()
def compared(net: LearnedReward, world: World, c: LearnedConfig, rng: np.random.Generator) -> dict[str, float]:
    """How the second model ranks the held-out texts of a world, as `agreement` tells."""
    num_texts, num_queries, num_users = world.known
    users, texts = np.arange(num_users, len(world.log_user)), np.arange(num_texts, len(world.texts))
    asked = np.arange(num_queries, len(world.queries))
    seen = world.choices(rng, users, np.arange(num_texts), np.arange(num_queries), c.choices, c.sharpness)
    z, _ = net.posterior(net.read(world.texts[:num_texts], world.queries[:num_queries])[0], seen)
    hidden = net.read(world.texts[num_texts:], world.queries[num_queries:])
    chosen = world.choices(rng, users, texts, asked, 200, c.sharpness)
    better, worse = (net(*hidden, z, text, chosen.query) for text in (chosen.better, chosen.worse))
    gain = world.gain(users, texts[chosen.better], texts[chosen.worse], asked[chosen.query])
    own, stranger = np.empty((len(users), 5)), np.empty((len(users), 5))
    for k in range(len(users)):
        for j, query in enumerate(rng.integers(0, len(asked), 5)):
            mu = world.reward(users[k : k + 1], asked[query : query + 1], texts)
            shown = torch.arange(len(texts))[None], torch.full((1, len(texts)), int(query))
            for found, who in ((own, k), (stranger, k - 1)):
                found[k, j] = spearmanr(net(*hidden, z[who][None], *shown)[0].numpy(), mu).statistic
    return {
        "spearman": float(own.mean()),
        "low_user": float(np.quantile(own.mean(axis=1), 0.05)),
        "stranger": float(stranger.mean()),
        "accuracy": float((better > worse).double().mean()),
        "ceiling": float(np.mean(gain > 0.0)),
        "texts": float(num_texts),
        "held_out": float(len(texts)),
    }
