"""What the numbers of records, claims and reports mean; ``docs/metrics.md`` is made of this and of docstrings.

Kinds of claims are defined where they are judged (`hare_evaluation.claims`), statistics where they are computed
(`hare_evaluation.statistics`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hare_evaluation.metrics import diversity, learning, overlap


@dataclass(frozen=True)
class Metric:
    """A number, in Markdown.

    Attributes:
        unit: What it counts.
        range: The values that it can have.
        better: ``higher``, ``lower``, or ``neither``.
        note: Formula and source, unless ``by`` has them, and what the number cannot tell.
        by: The function that computes it, whose docstring begins the definition.
        label: What figures and findings call it; empty where they use its name.
    """

    unit: str
    range: str
    better: str
    note: str
    by: Callable[..., Any] | None = None
    label: str = ""


RUN = {
    "reward": Metric(
        "reward",
        "0 to T",
        "higher",
        "Σ r_t over the observed rounds. It holds the luck of the draws: two agents of equal choices differ by "
        "chance, less so under common random numbers. Between environments it is not comparable.",
    ),
    "regret": Metric(
        "reward",
        "0 to T",
        "lower",
        "Σ (best_t − μ_t), where the best is `catalogue_oracle_reward` in `select` and `slate` and `oracle_reward` "
        "in `synthesize` and `write`: the pseudo-regret of the bandit literature (Bubeck and Cesa-Bianchi 2012). "
        "It measures the way as well as the end: an agent that learns late but perfectly may lose to one that is "
        "mediocre from the start. Regrets of two action modes have two different zeros. On logged data "
        "(`HareReplay-v0`) the oracle is a bound of unknown width, so that its level means nothing there.",
    ),
    "expected_reward": Metric(
        "reward",
        "0 to T",
        "higher",
        "Σ μ_t: the reward without the luck. It exists because the simulator knows μ; on logged data it is the "
        "logged reward.",
    ),
    "oracle_reward": Metric(
        "reward",
        "0 to T",
        "neither",
        "Σ of the best mean that any content could have had: a property of the task and not of the agent. Exact, "
        "unless the environment's page proves a bound and names its width (`oracle_width` in `info`).",
    ),
    "catalogue_oracle_reward": Metric(
        "reward",
        "0 to `oracle_reward`",
        "neither",
        "Σ of the mean of the best existing item (or slate): a property of the task.",
    ),
    "observed": Metric(
        "rounds",
        "0 to T",
        "neither",
        "Rounds whose reward somebody saw. Below T on logged data only: an agent that disagrees with the log is "
        "observed seldom, and its figures rest on few rounds.",
    ),
    "mean_reward": Metric("reward a round", "0 to 1", "higher", "`reward` divided by `observed`."),
    "normalised_regret": Metric(
        "multiples of random play",
        "from 0",
        "lower",
        "Where several environments are averaged, an agent's regret divided by that of the agent `random` there on "
        "the same seed: 0 is the oracle, 1 random play. It weighs environments equally and hides that in some of "
        "them random play loses little.",
    ),
}
"""Of a run, by name: the sums of its record, and what the report makes of them."""

ESTIMATES = {
    "replay": Metric(
        "reward an event",
        "0 to 1",
        "higher",
        "The mean reward of the events in which the agent chose what the log shows (Li et al. 2011). Unbiased only "
        "if the log's policy was uniform; it says so where it was not. Uses about one event in `num_items`.",
    ),
    "ips": Metric(
        "reward an event",
        "from 0, and can exceed 1",
        "higher",
        "The mean of w·r (inverse propensity score). Unbiased if the propensities are right; its variance grows "
        "with the weights.",
    ),
    "snips": Metric(
        "reward an event",
        "0 to 1",
        "higher",
        "Σ w·r / Σ w (self-normalised; Swaminathan and Joachims 2015). Less variance, with a bias of order 1/n.",
    ),
    "dm": Metric(
        "reward an event",
        "0 to 1",
        "higher",
        "The mean of Σ_a π(a)·q(x, a) (direct method). Hardly any variance, and as wrong as its model; its "
        "interval does not cover the model's error.",
    ),
    "dr": Metric(
        "reward an event",
        "can leave [0, 1]",
        "higher",
        "The mean of Σ_a π(a)·q(x, a) + w·(r − q) (doubly robust; Dudík et al. 2011). Unbiased if the propensities "
        "are right, with less variance than `ips` if the model is good.",
    ),
    "logger": Metric("reward an event", "0 to 1", "neither", "The mean reward of the log itself, for comparison."),
}
"""Of a run on logged data, by name: the `hare_evaluation.off_policy` estimates of its record."""

_BEST_ITEM = (
    "The reference is the item of the catalogue that would earn the user most for the query, which the simulator "
    "knows. Likeness to one good text is not quality: a recommender can reach 1, and a text that earns more than "
    "every item cannot."
)
_RECOVERY = (
    "Read from the user state u_t after 20 visits of the user (the figure has other numbers of visits). It shows "
    "what a linear reader finds, not whether the agent uses it; what is there but not linear it misses."
)
_PERPLEXITY = (
    "exp of the mean loss a token of at most 8 of a session's texts under the language model `tiny`: told the "
    "content vector that the text itself measures (`perplexity`), that of another of the texts, no text keeping "
    "its own (`perplexity_shuffled`), and none (`perplexity_unconditioned`). Predictable is no aim in itself. One "
    "small model judges every agent, so the numbers can be compared; it was trained on short versions of the "
    "built-in skills, so they tell likeness to those more than quality, what it wrote itself has an advantage, and "
    "of a long text it reads the first 511 tokens. They do not apply with another encoder than MiniLM, or where "
    "everybody gets one text."
)
_ENTROPY = (
    "Entropy of HARE's attention over the items at the last checkpoint that has it (`entropy_end`), and that minus "
    "the first (`entropy_change`). A fall is attention becoming specific; single checkpoints are single rounds, so "
    "the figure of all traced rounds tells more."
)


def _recovery(attribute: str) -> Metric:
    label = f"R² of {attribute} from u_t"
    return Metric("share of the variance", "at most 1", "higher", _RECOVERY, learning.recovery, label)


def _perplexity(label: str) -> Metric:
    return Metric("choices a token", "from 1", "lower", _PERPLEXITY, label=label)


TEXTS = {
    "reward_slope": Metric(
        "reward per factor e of visits",
        "any",
        "higher",
        "Of expected rewards, which leave the luck out; the queries still vary. An agent that learns about "
        "everybody at once has a slope as well; the ablation without user state shows that part.",
        learning.learning_slope,
        "reward per e-fold of visits",
    ),
    "divergence": Metric(
        "1 − cosine",
        "0 to 2",
        "higher",
        "Higher is more personal, if `resampled_divergence` is much lower. It is 0 exactly where everybody gets "
        "the same text. It cannot tell whether a difference serves the user: random texts have a large one.",
        diversity.divergence,
        "divergence between users",
    ),
    "resampled_divergence": Metric(
        "1 − cosine",
        "0 to 2",
        "neither",
        "The yardstick of `divergence`, no aim in itself. It is 0 for an agent and a decoder that draw nothing, so a "
        "claim subtracts a multiple of it rather than dividing by it.",
        diversity.resampled_divergence,
        "divergence of one user, again",
    ),
    "distance_correlation": Metric(
        "correlation",
        "−1 to 1",
        "higher",
        "The distance of users is the mean of the total variation of domain mixes, that of styles, and the absolute "
        "differences of expertise and specificity. It does not apply where everybody gets the same. An encoder of "
        "meaning sees domains far better than levels and styles, so it rewards following the domain most.",
        diversity.distance_correlation,
        "Spearman with users' distance",
    ),
    "recovery_domain": _recovery("domain"),
    "recovery_specificity": _recovery("specificity"),
    "recovery_expertise": _recovery("expertise"),
    "recovery_style": _recovery("style"),
    "intra_list_diversity": Metric(
        "1 − cosine",
        "0 to 2",
        "higher",
        "An agent that ignores the query has 0; one that ignores the user can have a large one.",
        diversity.intra_list_diversity,
        "intra-list diversity",
    ),
    "self_bleu": Metric(
        "BLEU ÷ 100",
        "0 to 1",
        "lower",
        "The texts are those of all users for one query; then the mean over queries. It depends on how many texts "
        "are compared, so only studies with equally many users can share it, and variety of words need not be "
        "variety of meaning.",
        overlap.self_bleu,
        "self-BLEU between users",
    ),
    "novelty": Metric(
        "share of texts",
        "0 to 1",
        "higher",
        "Near is a ROUGE-L of 0.7 or more. A text put together from lines of several items counts as new, and so "
        "would nonsense.",
        overlap.novelty,
        "novelty",
    ),
    "exact_copies": Metric(
        "share of texts",
        "0 to 1",
        "neither",
        "The share of texts that are an item of the pool letter by letter: 1 for a recommender.",
        label="exact copies",
    ),
    "pool_rouge_l": Metric(
        "F1",
        "0 to 1",
        "neither",
        "The mean over texts of the largest `rouge_l` with any item of the pool; 1 is a copy. Read it beside that "
        "of RAG.",
        label="nearest ROUGE-L in the pool",
    ),
    "pool_rouge_l_max": Metric(
        "F1",
        "0 to 1",
        "neither",
        "As `pool_rouge_l`, of the text that is most like an item.",
        label="largest ROUGE-L to the pool",
    ),
    "bleu_4": Metric(
        "BLEU ÷ 100",
        "0 to 1",
        "higher",
        f"It counts words and knows no synonyms. {_BEST_ITEM}",
        overlap.bleu_4,
        "BLEU-4 to the best item",
    ),
    "rouge_l": Metric(
        "F1",
        "0 to 1",
        "higher",
        f"The mean over texts of F1; lower case, no stemming. Words in order count, however far apart they stand. "
        f"{_BEST_ITEM}",
        overlap.rouge_l,
        "ROUGE-L to the best item",
    ),
    "sentence_bert_score": Metric(
        "F1",
        "0 to 1",
        "higher",
        f"The mean over texts of F1. Unrelated sentences already have a cosine above 0. {_BEST_ITEM}",
        overlap.sentence_bert_score,
        "BERTScore by sentences",
    ),
    "format_validity": Metric(
        "share of rounds",
        "0 to 1",
        "higher",
        "The share of a session's rounds whose text broke no rule of the Agent Skills format. It says nothing of the "
        "content.",
        label="format validity",
    ),
    "perplexity": _perplexity("perplexity to tiny, own z"),
    "perplexity_shuffled": _perplexity("perplexity, another text's z"),
    "perplexity_unconditioned": _perplexity("perplexity without z"),
    "information": Metric(
        "bits a text",
        "any",
        "higher",
        "The mean that a text's own content vector saves against none, under the same model as `perplexity`. "
        "Negative where vectors mislead.",
        label="bits a text that z saves",
    ),
    "entropy_change": Metric("nats", "−ln N to ln N", "lower", _ENTROPY, label="change of attention entropy"),
    "entropy_end": Metric("nats", "0 to ln N", "lower", _ENTROPY, label="attention entropy at the end"),
}
"""Of the texts that an agent wrote, by name; `hare_evaluation.metrics.probe` measures them."""
