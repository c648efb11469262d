"""The hyperparameters of HARE."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class HAREConfig:
    """What a user of HARE may set. The defaults were chosen on tuning seeds of ``HareBilinear-v0``.

    Attributes:
        ridge: Prior precision of the core's shared coefficients, in units of the noise.
        user_ridge: Prior precision of a user's coefficients, until the population has taught another.
        change_threshold: How many standard deviations a user's rewards may fall short of expectation, summed up (see
            `hare_agents.hare.changes`), before they are taken as changed and begin anew as a new user; 0 for never.
        population: Whether a new user's prior is learned from the users seen so far.
        rank: Length of the user factor e_u of the attention heads, r.
        attention: Whether the attention heads exist; without them HARE is its Bayesian core.
        user_state: Whether users are told apart. False is for ablations.
        core: Whether the gate may use the core. False is for ablations.
        likeness: Reward that content is expected to gain, before any data, per unit of its inner product with the
            query; for queries and contents of one space, as in retrieval.
        curvature: Reward that it is expected to lose per unit of its squared length, kappa: what a user wants is then
            a point inside the ball, not a direction.
        ideals: Ideal points that a user is thought to have one of, blends of items; each round serves one that is
            drawn by what is known of the user, see `hare_agents.hare.ideals`. 0 for none. Queries and contents must
            be of one space.
        ideal_width: Distance to the ideal point at which a reward is expected to have fallen by exp(-1/2), at first.
        ideal_power: What a user's posterior over ideal points is raised to before one is drawn: 1 is Thompson
            sampling, more explores less.
        heads: Learned attention heads, M; 0 leaves the core and the Bayesian attention head.
        hidden: Hidden units of a learned head.
        learning_rate: Adam's step at the start; it falls as 1 / (1 + t / 4000).
        weight_decay: Decoupled decay of the learned heads' weights.
        batch: Remembered rounds in one gradient step.
        train_every: Rounds between trainings of the learned heads.
        steps: Gradient steps in one training.
        warmup: Rounds before attention is first fitted.
        memory: Rounds remembered for fitting attention; the core forgets nothing and needs none of them.
        clusters: Knowledge clusters over the pool (at most one per item).
        cluster_values: Whether clusters have values v_j of their own, which no feature of an item tells.
        alpha: Weight of the clusters' uncertainty U_j in every head's scores, alpha_0.
        schedule: ``fixed``; ``sqrt`` for alpha_0 / sqrt(t); ``learned`` by meta-gradient, one alpha per head.
        posterior_bonus: Standard deviations of the core's posterior added to an item's score, beta; the noise counts
            as large as the mixed heads' errors of late.
        covariance_every: Rounds between updates of the clusters' Sigma_j.
        choice: ``argmax``; ``sample`` from the attention; ``thompson``: argmax under a draw from the posterior.
        temperature: Reward units that change an attention logit by one.
        tempered: Whether attention is flattened by the posterior's variance (``sample`` and blends).
        posterior_scale: Standard deviation of the noise that ``thompson`` and tempering assume.
        synthesis: ``optimum`` (the mixed heads' own best content), ``blend`` (A V); ``normalised`` (a blend,
            centred and of length one); ``decoded`` (W_V of a blend).
        synthesis_noise: Length of the random step that synthesized content takes to explore; it falls as
            1 / sqrt(1 + t / 500).
        freeze_at: The round after which only the users' own states are learned, see `HARE.freeze`; 0 for never. In
            the gym, where a session has a horizon, a number below 1 is a share of it.
        candidates: Items that get exact attention; a larger pool is searched by clusters first.
    """

    ridge: float = field(default=1.0, metadata={"above": 0})
    user_ridge: float = field(default=1.0, metadata={"above": 0})
    change_threshold: float = field(default=8.0, metadata={"low": 0})
    population: bool = True
    rank: int = field(default=4, metadata={"low": 1})
    attention: bool = True
    user_state: bool = True
    core: bool = True
    likeness: float = field(default=0.0, metadata={"low": 0})
    curvature: float = field(default=0.0, metadata={"low": 0})
    ideals: int = field(default=0, metadata={"low": 0})
    ideal_width: float = field(default=0.4, metadata={"above": 0})
    ideal_power: float = field(default=3.0, metadata={"above": 0})
    heads: int = field(default=2, metadata={"low": 0})
    hidden: int = field(default=32, metadata={"low": 1})
    learning_rate: float = field(default=0.035, metadata={"above": 0})
    weight_decay: float = field(default=0.1, metadata={"low": 0})
    batch: int = field(default=128, metadata={"low": 1})
    train_every: int = field(default=64, metadata={"low": 1})
    steps: int = field(default=8, metadata={"low": 1})
    warmup: int = field(default=300, metadata={"low": 32})
    memory: int = field(default=16_384, metadata={"low": 256})
    clusters: int = field(default=16, metadata={"low": 1})
    cluster_values: bool = True
    alpha: float = field(default=0.0, metadata={"low": 0})
    schedule: str = field(default="fixed", metadata={"choices": ("fixed", "sqrt", "learned")})
    posterior_bonus: float = field(default=2.0, metadata={"low": 0})
    covariance_every: int = field(default=1, metadata={"low": 1})
    choice: str = field(default="argmax", metadata={"choices": ("argmax", "sample", "thompson")})
    temperature: float = field(default=0.05, metadata={"above": 0})
    tempered: bool = True
    posterior_scale: float = field(default=0.15, metadata={"low": 0})
    synthesis: str = field(default="optimum", metadata={"choices": ("optimum", "blend", "normalised", "decoded")})
    synthesis_noise: float = field(default=0.2, metadata={"low": 0})
    freeze_at: float = field(default=0.0, metadata={"low": 0})
    candidates: int = field(default=4096, metadata={"low": 1})
