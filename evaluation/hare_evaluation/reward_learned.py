"""A second reward model, learned from simulated users' choices between two texts, to check the first by.

Variational preference learning (Poddar et al. 2024): each user has a Gaussian over an embedding z, a network gives a
text's reward for a query and z, and both are fitted to the evidence lower bound of the choices. The paper's encoder
makes the Gaussian from a user's choices; here it is fitted to them, which learned faster (docs/reward_model.md).

The network sees the sentence encoder's embeddings of text and query and the surface counts. It is not told the
directions and measures that the first model makes of them, how these enter the reward, any label, or what users wish.
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

from hare_evaluation.reward_attacks import instruction_lines
from hare_evaluation.runner import one_thread, seeds
from hare_gym.config import configure
from hare_gym.text.calibrate import embedding, queries
from hare_gym.text.corpus import load_corpus
from hare_gym.text.encoders import Encoder, load_encoder
from hare_gym.text.measure import Measured, Measurer, sections_of
from hare_gym.text.reward import RewardModel
from hare_gym.text.skills import Skill, SkillError, make_skill
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
        blends: Texts to train on that `blended` makes, beside the items themselves.
        held_out_blends: Texts to test on, made of held-out items alone.
        told: Choices, between training texts, that are told of a held-out user.
        choices: Choices of a training user in a step.
        batch: Users in a step.
        shown: Texts that a step's choices are between.
        steps: Steps of AdamW.
        steps_of_new_users: Steps of Adam that fit the held-out users' embeddings.
        rate: The largest learning rate of the one cycle.
        decay: Weight decay.
        dropout: Share of a text's hidden units that a step leaves out.
        width: Units of a hidden layer.
        latent: Length of z.
        sharpness: A user prefers text a with probability sigmoid(sharpness (mu_a - mu_b)).
        divergence: Weight of the divergence of a training user's Gaussian from a standard normal.
    """

    users: int = 300
    held_out_users: int = 40
    held_out: float = 0.25
    blends: int = 1200
    held_out_blends: int = 300
    told: int = 256
    choices: int = 64
    batch: int = 64
    shown: int = 256
    steps: int = 2000
    steps_of_new_users: int = 300
    rate: float = 5e-3
    decay: float = 0.01
    dropout: float = 0.1
    width: int = 128
    latent: int = 16
    sharpness: float = 20.0
    divergence: float = 1e-4


def blended(skills: Sequence[Skill], rng: np.random.Generator, n: int) -> list[Skill]:
    """Skills that mix the lines of two, 20% to 80% from either.

    Args:
        skills: Where the lines are from.
        rng: Draws the skills and the lines.
        n: How many.
    """
    found: list[Skill] = []
    while len(found) < n:
        a, b = (skills[int(i)] for i in rng.choice(len(skills), 2, replace=False))
        share = rng.uniform(0.2, 0.8)
        try:
            skill = make_skill(
                a.name,
                a.description,
                title=a.title,
                triggers=_some(a.triggers, share, rng) + _some(b.triggers, 1.0 - share, rng),
                instructions="\n".join(
                    _some(instruction_lines(a), share, rng) + _some(instruction_lines(b), 1.0 - share, rng)
                ),
                examples=b.examples,
            )
        except SkillError:  # a trigger of both
            continue
        found.append(skill)
    return found


def _some(lines: Sequence[str], share: float, rng: np.random.Generator) -> list[str]:
    """A share of the lines, one at least, in their order."""
    chosen = rng.permutation(len(lines))[: max(round(share * len(lines)), 1)]
    return [lines[int(i)] for i in np.sort(chosen)]


def raw_features(skills: Sequence[Skill], encoder: Encoder) -> Array:
    """What the second model sees of skills, ``(n, dim + 22)``.

    Args:
        skills: Complete ones.
        encoder: Embeds their units.

    Returns:
        The weighted mean of the sections' mean embeddings, `hare_gym.text.units.SURFACE` (17), and the logarithms of
        the numbers of units by section and of words (5).
    """
    taken_apart = [units_of(skill) for skill in skills]
    distinct = sorted({unit for units in taken_apart for unit in units.all})
    embedded = dict(zip(distinct, np.asarray(encoder.encode(distinct), dtype=np.float64), strict=True))
    sizes = [[*map(len, sections_of(units)), units.words] for units in taken_apart]
    whole = [embedding(units, embedded) for units in taken_apart]
    return np.concatenate([whole, [units.surface for units in taken_apart], np.log1p(sizes)], axis=1)


def _standardised(x: Array, known: int) -> Tensor:
    """Columns with mean zero and deviation one over the first rows, at most 3 deviations."""
    deviation = np.maximum(x[:known].std(axis=0), 1e-9)
    return torch.tensor(((x - x[:known].mean(axis=0)) / deviation).clip(-3.0, 3.0), dtype=torch.float32)


@dataclass(frozen=True)
class Choices:
    """What users preferred: positions among the texts and the queries that they were shown, ``(B, m)`` each."""

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
    corpus, encoder, measurer, model = load_corpus(), load_encoder("minilm"), Measurer(), RewardModel()
    kept = round((1.0 - c.held_out) * len(corpus))
    order = rng.permutation(len(corpus))
    train, test = ([corpus.skills[int(i)] for i in part] for part in (order[:kept], order[kept:]))
    train += blended(train, rng, c.blends)
    skills = train + test + blended(test, rng, c.held_out_blends)
    # validity and guards are rules and no matter of taste: they are 1 here
    measured = [Measured(skill.text, measurer.content(units_of(skill)), 1.0, {}, skill) for skill in skills]
    asked = queries()
    needs = [asked[int(i)].text for i in rng.permutation(len(asked))]
    num_queries = round((1.0 - c.held_out) * len(asked))
    users = Users.draw(rng, c.users + c.held_out_users)
    return World(
        _standardised(raw_features(skills, encoder), len(train)),
        _standardised(np.asarray(encoder.encode(needs), dtype=np.float64), num_queries),
        model.user_table(users, measured),
        model.query_table(np.array([measurer.query(need) for need in needs]), measured),
        (len(train), num_queries, c.users),
    )


class LearnedReward(nn.Module):
    """r = sigmoid(f(text) . g(z) + h(text) . k(query)), f with h, g and k networks of one hidden layer.

    Args:
        text_dim: Features of a text.
        query_dim: Features of a query.
        c: Sizes.
    """

    def __init__(self, text_dim: int, query_dim: int, c: LearnedConfig) -> None:
        super().__init__()
        width = c.width
        self.text = nn.Sequential(
            nn.Linear(text_dim, width), nn.ReLU(), nn.Dropout(c.dropout), nn.Linear(width, 2 * width)
        )
        self.query = nn.Sequential(nn.Linear(query_dim, width), nn.ReLU(), nn.Linear(width, width))
        self.user = nn.Sequential(nn.Linear(c.latent, width), nn.ReLU(), nn.Linear(width, width))
        self.sharpness = nn.Parameter(torch.tensor(3.0))

    def forward(self, texts: Tensor, queries: Tensor, z: Tensor) -> Rewards:
        """Rewards of texts, ``(N, text_dim)``, for queries, ``(Q, query_dim)``, and users, ``(B, latent)``."""
        f, h = self.text(texts).chunk(2, dim=-1)
        scale = f.shape[1] ** -0.5
        return Rewards(scale * self.user(z) @ f.T, scale * self.query(queries) @ h.T)

    def loss(self, rewards: Rewards, choices: Choices) -> Tensor:
        """Minus the mean log likelihood of choices."""
        gain = rewards.of(choices.better, choices.query) - rewards.of(choices.worse, choices.query)
        return -functional.logsigmoid(self.sharpness.exp() * gain).mean()


@dataclass(frozen=True)
class Rewards:
    """Log odds of rewards, of B users by text, ``(B, N)``, and of queries by text, ``(Q, N)``; they add up."""

    by_user: Tensor
    by_query: Tensor

    def of(self, text: Tensor, query: Tensor) -> Tensor:
        """Each user's rewards, ``(B, m)``, of texts for queries at positions ``(B, m)``."""
        return torch.sigmoid(self.by_user.gather(1, text) + self.by_query[query, text])


class Posteriors(nn.Module):
    """A Gaussian over the embedding z of each of B users."""

    def __init__(self, users: int, latent: int) -> None:
        super().__init__()
        self.mean = nn.Parameter(0.1 * torch.randn(users, latent))
        self.log_variance = nn.Parameter(torch.full((users, latent), -4.0))

    def draw(self, who: Tensor) -> tuple[Tensor, Tensor]:
        """Embeddings of some users, ``(B, latent)``, and their mean divergence from a standard normal."""
        mean, log_variance = self.mean[who], self.log_variance[who]
        divergence = 0.5 * (mean.square() + log_variance.exp() - 1.0 - log_variance).sum(dim=-1).mean()
        return mean + torch.exp(0.5 * log_variance) * torch.randn_like(mean), divergence


def trained(
    world: World, c: LearnedConfig, rng: np.random.Generator, log: Callable[[str], None] | None = None
) -> LearnedReward:
    """Trains the second model on the choices of the training users between the training texts."""
    num_texts, num_queries, num_users = world.known
    asked = np.arange(num_queries)
    net, users = LearnedReward(world.texts.shape[1], world.queries.shape[1], c), Posteriors(num_users, c.latent)
    parameters = [*net.parameters(), *users.parameters()]
    optimiser = torch.optim.AdamW(parameters, lr=c.rate, weight_decay=c.decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, c.rate, total_steps=c.steps)
    for step in range(1, c.steps + 1):
        who = rng.permutation(num_users)[: c.batch]
        shown = rng.permutation(num_texts)[: c.shown]
        choices = world.choices(rng, who, shown, asked, c.choices, c.sharpness)
        z, divergence = users.draw(torch.tensor(who))
        loss = net.loss(net(world.texts[shown], world.queries[:num_queries], z), choices) + c.divergence * divergence
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
        if log is not None and step % 500 == 0:
            log(f"step {step}: loss {loss.item():.3f}")
    return net.eval().requires_grad_(False)


def acquainted(net: LearnedReward, texts: Tensor, queries: Tensor, choices: Choices, c: LearnedConfig) -> Tensor:
    """Embeddings of new users after their choices, ``(B, latent)``: the network stays, their Gaussians are fitted."""
    everybody = torch.arange(len(choices.query))
    users = Posteriors(len(everybody), c.latent)
    optimiser = torch.optim.Adam(users.parameters(), lr=0.05)
    for _ in range(c.steps_of_new_users):
        z, divergence = users.draw(everybody)
        loss = net.loss(net(texts, queries, z), choices) + divergence / choices.query.shape[1]
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    return users.mean.detach()


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


def compared(net: LearnedReward, world: World, c: LearnedConfig, rng: np.random.Generator) -> dict[str, float]:
    """How the second model ranks the held-out texts of a world, as `agreement` tells."""
    num_texts, num_queries, num_users = world.known
    users, texts = np.arange(num_users, len(world.log_user)), np.arange(num_texts, len(world.texts))
    asked = np.arange(num_queries, len(world.queries))
    told = world.choices(rng, users, np.arange(num_texts), np.arange(num_queries), c.told, c.sharpness)
    z = acquainted(net, world.texts[:num_texts], world.queries[:num_queries], told, c)
    found = net(world.texts[num_texts:], world.queries[num_queries:], z)
    chosen = world.choices(rng, users, texts, asked, 200, c.sharpness)
    gain = found.of(chosen.better, chosen.query) - found.of(chosen.worse, chosen.query)
    sure = world.gain(users, texts[chosen.better], texts[chosen.worse], asked[chosen.query])
    own, stranger = np.empty((len(users), 5)), np.empty((len(users), 5))
    for k in range(len(users)):
        for j, query in enumerate(rng.integers(0, len(asked), 5)):
            mu = world.reward(users[k : k + 1], asked[query : query + 1], texts)
            for correlation, who in ((own, k), (stranger, k - 1)):
                score = found.by_user[who] + found.by_query[int(query)]
                correlation[k, j] = spearmanr(score.numpy(), mu).statistic
    return {
        "spearman": float(own.mean()),
        "low_user": float(np.quantile(own.mean(axis=1), 0.05)),
        "stranger": float(stranger.mean()),
        "accuracy": float((gain > 0.0).double().mean()),
        "ceiling": float(np.mean(sure > 0.0)),
        "texts": float(num_texts),
        "held_out": float(len(texts)),
    }
