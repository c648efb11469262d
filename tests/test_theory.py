"""docs/theory.md: its propositions hold in figures, its quoted numbers are right, and its tables are current."""

import itertools
import math
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats
from typer.testing import CliRunner

from hare_agents.hare.attention import attention, entropy
from hare_agents.hare.gate import Gate
from hare_agents.hare.knowledge import Clusters
from hare_agents.hare.user_state import CoreModel, PopulationRidge
from hare_agents.linear import BilinearModel, with_one
from hare_evaluation.cli import app
from hare_evaluation.environments import make
from hare_evaluation.pages import markers, rewrite, write_page
from hare_evaluation.runner import run
from hare_evaluation.spec import RunSpec
from hare_evaluation.statistics import Interval
from hare_evaluation.theory import COMMAND, CORE, Bound, _verdict, misfit, study
from hare_evaluation.theory_probes import true_means
from hare_gym.errors import ConfigError
from hare_gym.registry import make_agent

PAGE = Path(__file__).parents[1] / "docs" / "theory.md"
PROBES = "hare_evaluation.theory_probes:"
BEGIN, END = markers(COMMAND)


def unit(rng, *shape):
    v = rng.standard_normal(shape)
    return v / np.linalg.norm(v, axis=-1, keepdims=True)


class TestCore:
    @settings(max_examples=15, deadline=None)
    @given(
        seed=st.integers(0, 2**32 - 1),
        d=st.integers(1, 4),
        users=st.integers(1, 5),
        ridge=st.floats(0.1, 10.0),
        user_ridge=st.floats(0.1, 10.0),
    )
    def test_the_arrow_splits_and_its_determinant_is_bounded(self, seed, d, users, ridge, user_ridge):
        rng = np.random.default_rng(seed)
        T = int(rng.integers(1, 150))
        model = BilinearModel(d, d, ridge, user_ridge)
        log_det = parts_shared = parts_users = 0.0
        A = np.diag(np.r_[np.full(1 + (d + 1) * d, ridge), np.full(users * d, user_ridge)])
        A_0 = A.copy()
        # a few directions again and again, or many
        X, Y = unit(rng, int(rng.integers(1, 9)), d), unit(rng, int(rng.integers(1, 9)), d)
        for _ in range(T):
            x, y, user = X[rng.integers(len(X))], Y[rng.integers(len(Y))], int(rng.integers(users))
            w2 = float(model.belief(x, user).width(with_one(y[None]))[0]) ** 2
            private = float(y @ model.posterior.A_u_inv[model.posterior.slot(user)] @ y)
            gamma = 1.0 + private
            log_det += math.log1p(w2)
            parts_users += math.log(gamma)
            parts_shared += math.log1p((w2 - private) / gamma)
            phi = np.r_[1.0, np.kron(np.r_[1.0, x], y), np.kron(np.eye(users)[user], y)]
            A += np.outer(phi, phi)
            model.update(x, user, y, float(rng.random()))
        exact = np.linalg.slogdet(A)[1] - np.linalg.slogdet(A_0)[1]
        S = np.linalg.slogdet(model.posterior.shared.A / ridge)[1]
        bound = Bound(T, d, users, ridge, user_ridge)
        assert log_det == pytest.approx(exact, rel=1e-6, abs=1e-8)
        assert parts_shared == pytest.approx(S, rel=1e-6, abs=1e-8)
        assert log_det == pytest.approx(parts_shared + parts_users, rel=1e-9)
        assert parts_users <= bound.log_det_users + 1e-9
        assert log_det <= bound.log_det + 1e-9
        assert len(A) == bound.D

    def test_the_noise_is_sub_gaussian_with_the_scale_used(self):
        for mean in (0.02, 0.3, 0.5, 0.9):
            law = stats.beta(10.0 * mean, 10.0 * (1.0 - mean))
            for s in (-30.0, -3.0, 0.5, 8.0):
                value, _ = integrate.quad(lambda r, s=s, law=law: math.exp(s * (r - law.mean())) * law.pdf(r), 0, 1)
                assert value <= math.exp(0.5 * (s * Bound(1).sigma) ** 2) * (1.0 + 1e-6)
        assert stats.beta(5, 5).std() == pytest.approx(Bound(1).sigma)  # so it is the least scale that does

    def test_the_bound_is_used_where_it_falls_below_T(self):
        bound = Bound(1.0)
        T = bound.informative_from
        assert Bound(1.01 * T).regret < 1.01 * T
        assert Bound(0.99 * T).regret > 0.99 * T

    def test_an_undersized_alpha_is_accounted_for_round_by_round(self):
        """Proposition 2, and Lemma 3's radius on the linear world."""
        record, _ = run(
            RunSpec("HareLinear-v0", PROBES + "ProbedLinUCB", "theory-tests", 0, {"horizon": 1500}, {"alpha": 0.1})
        )
        told = {name: values[-1] for name, values in record["diagnostics"].items()}
        regret = record["totals"]["regret"]
        assert 0.0 < told["failed"] < 1.0
        assert told["failed_regret"] < regret <= told["bound"] + told["failed_regret"]
        bound = Bound(1500)
        assert told["log_det"] <= bound.log_det and told["potential"] <= bound.potential
        assert 0.1 < told["largest"] <= bound.radius
        assert told["covered_all"] < 0.99


class TestPrior:
    def test_a_prior_is_fixed_before_its_user_is_met(self):
        rng = np.random.default_rng(0)
        posterior = PopulationRidge(3, 2, 1.0, 2.0)
        fixed = {}
        for t in range(400):
            user = min(t // 8, int(rng.integers(1000)))
            if user not in posterior.groups:
                fixed[user] = posterior.prior_of(user)
            posterior.update(user, rng.standard_normal(3), 3.0 * rng.standard_normal(2), float(rng.random()))
            if t % 20 == 19:
                posterior.learn_prior(0.02)
                # and never narrower than the page says
                assert np.linalg.eigvalsh(posterior.prior_of(-1)).max() <= (1.0 + len(fixed) / 10.0) * 2.0 + 1e-9
        assert len({prior.tobytes() for prior in fixed.values()}) > 5
        for user, prior in fixed.items():
            np.testing.assert_array_equal(posterior.prior_of(user), prior)


class TestClusters:
    def test_what_the_clusters_uncertainty_can_cost(self):
        rng = np.random.default_rng(1)
        K, d, T = 5, 3, 700
        clusters = Clusters(unit(rng, K, d))
        fixed = falling = 0.0
        for t in range(1, T + 1):
            q = unit(rng, d)
            U = clusters.uncertainty(q)
            j = int(U.argmax())  # the dearest choice
            fixed += U[j]
            falling += U[j] / math.sqrt(t)
            clusters.shown(j, q)
        gain = K * d * math.log1p(T / (K * d)) / math.log(2.0)
        assert 0.3 * math.sqrt(T * gain) < fixed <= math.sqrt(T * gain)
        assert falling <= math.sqrt((1.0 + math.log(T)) * gain)

    def test_the_page_s_costs(self):
        gain = 16 * 8 * math.log1p(10_000 / 128) / math.log(2.0)
        page = PAGE.read_text(encoding="utf-8")
        assert f"{math.sqrt(10_000 * gain):,.0f} α_U" in page
        assert f"{math.sqrt((1 + math.log(10_000)) * gain):.0f} α_0" in page


class TestGate:
    @settings(max_examples=25, deadline=None)
    @given(seed=st.integers(0, 2**32 - 1), heads=st.integers(2, 5))
    def test_the_mixture_errs_at_most_as_much_as_any_head(self, seed, heads):
        rng = np.random.default_rng(seed)
        gate = Gate(heads)
        mix = 0.3 * rng.standard_normal((heads, heads)) / heads
        everyone = np.ones(heads, dtype=np.bool_)
        for _ in range(200):
            gate.update(0.15 * rng.standard_normal() + mix @ rng.standard_normal(heads), everyone, everyone)
        assert gate.w.sum() == pytest.approx(1.0) and gate.w.min() >= 0.0
        assert gate.w @ gate.C @ gate.w <= np.diag(gate.C).min() + 1e-4


class TestSpecificity:
    @settings(max_examples=50, deadline=None)
    @given(scores=st.lists(st.floats(-20, 20), min_size=2, max_size=12), variance=st.floats(0, 50))
    def test_entropy_s_slope_in_the_temperature(self, scores, variance):
        s = np.array(scores)
        tau = math.sqrt(1.0 + math.pi / 8.0 * variance)
        step = 1e-4 * tau

        def H(tau):
            return entropy(attention(s / tau))

        A = attention(s, variance)
        spread = float(A @ (s - A @ s) ** 2)
        assert (H(tau + step) - H(tau - step)) / (2.0 * step) == pytest.approx(spread / tau**3, rel=1e-3, abs=1e-5)
        assert H(tau) <= entropy(attention(s, variance + 1.0)) + 1e-9

    def test_uncertainty_and_tempered_entropy_fall_at_every_visit(self):
        rng = np.random.default_rng(2)
        core = CoreModel(4, 4, 1.0, 1.0)
        items, x = with_one(unit(rng, 20, 4)), unit(rng, 4)
        for user in range(3):
            core.update(unit(rng, 4), user, unit(rng, 4), 0.5)
        scores = 5.0 * rng.standard_normal(20)
        last_variance, last_entropy = math.inf, math.inf
        for _ in range(60):
            variance = float((core.belief(x, 0).width(items) ** 2).mean())
            tempered = entropy(attention(scores, 9.0 * variance))
            assert variance <= last_variance + 1e-12 and tempered <= last_entropy + 1e-9
            last_variance, last_entropy = variance, tempered
            # whoever comes, whatever is earned
            core.update(unit(rng, 4), int(rng.integers(3)), unit(rng, 4), float(rng.random()))
        assert last_variance < 2.0

    def test_where_learning_makes_a_plug_in_attention_less_specific(self):
        def H(g):
            return entropy(attention(np.array([0.0, g])))

        def after_a_small_step(g):
            return 0.5 * (H(g - 0.05) + H(g + 0.05))

        assert after_a_small_step(1.4) < H(1.4)
        assert after_a_small_step(1.7) > H(1.7)
        assert 1.543 * math.tanh(1.543 / 2.0) == pytest.approx(1.0, abs=1e-3)
        assert "1.543" in PAGE.read_text(encoding="utf-8")


class TestProbes:
    @pytest.mark.parametrize("env", ["HareLinear-v0", "HareBilinear-v0"])
    def test_the_truth_is_the_environment_s(self, env):
        env = make(env, {"horizon": 30, "efficacy": 0.3, "num_items": 12, "num_clusters": 4})
        env.reset(seed=5)
        for t in range(30):
            truth = true_means(env.unwrapped)
            *_, info = env.step(t % 12)
            assert truth[t % 12] == pytest.approx(info["expected_reward"], abs=1e-12)
            assert truth.max() == pytest.approx(info["catalogue_oracle_reward"], abs=1e-12)

    def test_the_core_of_the_study_is_the_core_alone(self):
        """It shows the item with the largest m + beta s w, as LinUCB does, also where attention would help."""
        core = next(entry for entry in study().agents if entry.label == CORE)
        agent, env = make_agent(core.name, **core.kwargs), make("HareBilinear-v0", {"horizon": 600})
        observation, _ = env.reset(seed=3)
        agent.reset(env.unwrapped.task, np.random.default_rng(0))
        agent.attach(env.unwrapped)
        items = with_one(env.unwrapped.task.pool)
        for _ in range(600):
            action = agent.act(observation)
            belief = agent.hare.core.belief(observation["query"], int(observation["user"]))
            bounds = belief.mean(items) + agent.config.posterior_bonus * agent.hare.gate.s * belief.width(items)
            assert bounds[action] == pytest.approx(bounds.max(), abs=1e-12)
            following, reward, *_ = env.step(action)
            agent.update(observation, action, reward)
            observation = following

    @pytest.mark.parametrize(("agent", "probe"), [("linucb", "ProbedLinUCB"), ("hare", "ProbedHARE")])
    def test_a_probe_changes_no_choice(self, agent, probe):
        plain, probed = (
            run(RunSpec("HareBilinear-v0", name, "theory-tests", 0, {"horizon": 400}, {}))[0]
            for name in (agent, PROBES + probe)
        )
        assert plain["status"] == probed["status"] == "ok"
        assert plain["actions_sha256"] == probed["actions_sha256"]


def shape(text):
    """Titles, heads and first cells of the generated part, without figures."""
    generated = text.partition(BEGIN)[2].partition(END)[0]
    titles = [re.sub(r"[\d.,]+", "#", title) for title in re.findall(r"^\*\*.*\*\*$", generated, re.MULTILINE)]
    lines = [line.split(" | ") for line in generated.splitlines() if line.startswith("| ")]
    heads = [cells for cells, rule in itertools.pairwise(lines) if rule[0] == "| ---"]
    return titles, heads, [(cells[0], len(cells)) for cells in lines]


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """The page as the command writes it for a small study."""
    folder = tmp_path_factory.mktemp("theory")
    page = folder / "theory.md"
    page.write_text(PAGE.read_text(encoding="utf-8"), encoding="utf-8")
    arguments = ["theory", "--seeds", "2", "--horizon", "250", "--backend", "serial"]
    result = CliRunner().invoke(app, [*arguments, "--store", str(folder / "runs"), "--page", str(page)])
    assert result.exit_code == 0, result.output
    return page.read_text(encoding="utf-8"), result.output


class TestPage:
    def test_its_tables_have_the_form_that_the_command_gives_them(self, small):
        written = PAGE.read_text(encoding="utf-8")
        assert shape(written) == shape(small[0]), "run: hare theory --page docs/theory.md"
        assert len(shape(written)[0]) == 6

    def test_the_command_replaces_what_is_between_the_markers_only(self, small):
        written = PAGE.read_text(encoding="utf-8")
        assert small[0].partition(BEGIN)[0] == written.partition(BEGIN)[0]
        assert small[0].partition(END)[2] == written.partition(END)[2]
        assert "Made by `hare theory --seeds 2 --horizon 250`: 2 seeds of the set `theory`" in small[0]
        assert small[0].partition(BEGIN)[2].partition(END)[0].strip() in small[1]

    def test_its_tables_come_from_the_full_study(self):
        written = PAGE.read_text(encoding="utf-8")
        assert "Made by `hare theory --seeds 6 --horizon 10000`: 6 seeds of the set `theory`" in written
        assert "T = 10,000" in written and "T = 4,000" in written

    def test_the_numbers_in_the_text_are_the_bound_s(self):
        bound = Bound(10_000)
        page = " ".join(PAGE.read_text(encoding="utf-8").split())
        assert f"k = {bound.k}, U = 20, D = {bound.D}" in page
        users, all_ = bound.log_det_users, bound.log_det
        assert f"G_T = {all_ - users:.0f} + {users:.0f} = {all_:,.0f}" in page
        assert f"β = {bound.sigma:.3f} · √(6.0 + {all_:,.0f}) + √2 = {bound.radius:.2f}" in page
        assert f"c = {bound.potential / all_:.2f}; R_T ≤ {bound.regret:,.0f}" in page
        assert f"{bound.informative_from / 1e6:.1f} million rounds" in page
        alpha = bound.sigma * math.sqrt(2.0 * math.log(64 * 10_000))
        assert f"= {alpha:.2f}," in page
        assert f"gives {2.0 * alpha * math.sqrt(10_000 * bound.potential):,.0f} and two" in page

    def test_a_page_without_its_markers_is_told(self, tmp_path):
        with pytest.raises(
            ConfigError, match=r"The page must hold one line '<!-- hare theory: begin -->' and after it"
        ):
            rewrite(f"{END} {BEGIN}", "tables", COMMAND)
        with pytest.raises(ConfigError, match="The page must hold one line"):
            rewrite(f"{BEGIN} {BEGIN} {END}", "tables", COMMAND)
        with pytest.raises(ConfigError, match=r"The page .*none\.md cannot be read: No such file or directory\."):
            write_page(tmp_path / "none.md", "tables", COMMAND)


def test_the_linear_world_is_bilinear_and_the_other_is_not():
    _, residual, largest = misfit("HareLinear-v0", 0, 300)
    assert largest < 1e-5
    spread, residual, largest = misfit("HareBilinear-v0", 0, 300)
    assert 0.1 * spread < residual < spread
    assert largest > 2.0 * residual


def test_the_study_plays_neither_final_nor_tuning_seeds():
    assert study().seeds.set == "theory"
    assert study().plan().notes == ()


def test_verdicts():
    assert _verdict(Interval(0.5, 0.4, 0.6), 0.55) == "as the bound"
    assert _verdict(Interval(0.5, 0.4, 0.6), 0.7) == "more slowly"
    assert _verdict(Interval(0.5, 0.4, 0.6), 0.3) == "faster"
    assert _verdict(Interval(0.5, 0.4, 0.6), math.nan) == "—"
    assert _verdict(Interval(0.5, math.nan, math.nan), 0.5) == "—"
