import base64
import os
import re
import subprocess
from html.parser import HTMLParser

import matplotlib.image
import numpy as np
import pandas as pd
import pytest
from _browser import CHROMIUM, missing
from _records import LABELS, fail, logged_study, make_record, study

from hare_evaluation import figures, tables
from hare_evaluation.report import write_report
from hare_evaluation.results import Labels, Results

HOSTILE = '<script>alert("x")</script><img src=x onerror=alert(1)> $\\frac{ & \''


class Page(HTMLParser):
    """The page's tags and text."""

    def __init__(self, path):
        super().__init__()
        self.tags, self.text = [], ""
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data

    def all(self, name):
        return [attrs for tag, attrs in self.tags if tag == name]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    records = study()
    records[7] = fail(records[7], "<b>singular</b>")
    out = tmp_path_factory.mktemp("report")
    assert write_report(records + logged_study(), out, "A study", LABELS) == out / "index.html"
    return out


@pytest.fixture(scope="module")
def page(folder):
    return Page(folder / "index.html")


def test_every_environment_has_a_section_a_table_and_figures(page):
    sections = [attrs["id"] for attrs in page.all("section")]
    assert sections == [
        "all-environments",
        "HareBilinear-v0",
        "HareLinear-v0",
        "digits",
        "HareReplay-v0",
        "failures",
        "statistics",
        "reproduce",
    ]
    alts = [attrs["alt"] for attrs in page.all("img")]
    for environment, count in (("HareBilinear-v0", 3), ("HareLinear-v0", 3), ("digits", 3), ("HareReplay-v0", 2)):
        assert sum(alt.startswith(f"{environment}: ") for alt in alts) == count
        assert any(attrs.get("aria-label") == f"Table: {environment}" for attrs in page.all("div"))
    for label in LABELS.agents.values():
        assert label in page.text
    links = [attrs["href"] for attrs in page.all("a")]
    assert links and all(link[1:] in sections for link in links)


def test_the_page_needs_nothing_from_outside(page):
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    assert {"http-equiv": "Content-Security-Policy", "content": policy} in page.all("meta")
    allowed = {"html", "head", "meta", "title", "style", "body", "main", "header", "nav", "section", "h1", "h2", "h3"}
    allowed |= {"p", "ul", "li", "a", "strong", "code", "pre", "sub", "span", "div", "figure", "figcaption", "img"}
    allowed |= {"table", "thead", "tbody", "tr", "th", "td", "details", "summary", "dl", "dt", "dd"}
    assert {tag for tag, _ in page.tags} <= allowed
    outside = re.compile(r"https?:|//[a-z]|@import|url\(", re.IGNORECASE)
    assert not outside.search(re.sub(r'src="data:[^"]*"', "", page.source))
    for attrs in page.all("img"):
        kind, data = attrs["src"].split(",", 1)
        assert kind == "data:image/svg+xml;base64"
        svg = base64.b64decode(data).decode()
        assert svg.lstrip().startswith("<?xml")
        # the only addresses in a figure are the names of its XML vocabularies
        assert not re.search(r'(?:href|src)="(?!#)', svg)


def test_files_lie_beside_the_page(folder):
    names = {path.name for path in folder.iterdir()}
    for environment in ("HareBilinear-v0", "HareLinear-v0", "digits"):
        for part in ("regret.png", "regret.svg", "final.png", "final.svg", "reward.png", "reward.svg", "summary.csv"):
            assert f"{environment}-{part}" in names
    assert {"overall.png", "overall-summary.csv", "runs.csv", "curves.csv", "HareReplay-v0-estimates.png"} <= names
    assert all((folder / name).stat().st_size > 100 for name in names)
    assert (folder / "digits-regret.png").read_bytes().startswith(b"\x89PNG")
    summary = pd.read_csv(folder / "digits-summary.csv")
    assert len(summary) == 8 and {"mean_low", "iqm_high", "p", "rank_low", "slope"} <= set(summary)
    assert len(pd.read_csv(folder / "runs.csv")) == 3 * 8 * 5 - 1 + 6


def test_failures_are_named_with_tracebacks(page):
    assert page.text.count("LinAlgError: <b>singular</b>") == 2  # the summary, and the traceback's last line
    assert "1 run failed." in page.text
    assert "4 of 5" in page.text
    assert any(tag == "pre" for tag, _ in page.tags)


def test_the_page_says_what_cannot_be_told_apart_and_how_to_reproduce_it(page):
    assert "Cannot be told apart from it with these seeds:" in page.text
    assert "hare report" in page.text
    assert "quick: 0–4" in page.text
    assert "numpy" in page.text and "2.4.6" in page.text
    assert study()[0]["key"] in page.text


def test_hostile_names_are_shown_and_never_run(tmp_path):
    kwargs = {"table": HOSTILE}
    labels = Labels(
        {Labels.environment_key("HareLinear-v0", kwargs): HOSTILE}, {Labels.agent_key("linucb", {}): HOSTILE}
    )
    records = [
        make_record("HareLinear-v0", agent, seed, env_kwargs=kwargs)
        for agent in ("linucb", "random")
        for seed in (0, 1)
    ]
    records[-1] = fail(records[-1], HOSTILE)
    page = Page(write_report(records, tmp_path, HOSTILE, labels))
    assert "<script" not in page.source.lower()
    assert not any("onerror" in attrs for _, attrs in page.tags)
    assert page.text.count('<script>alert("x")</script>') >= 5
    assert all(re.fullmatch(r"[A-Za-z0-9.-]+", path.name) for path in tmp_path.iterdir())


def test_labels_that_would_share_a_file_do_not(tmp_path):
    labels = Labels(
        {
            Labels.environment_key("HareLinear-v0", {"seed": i}): label
            for i, label in enumerate(["a/b", "a b", "A-B", "../..", "overall"])
        }
    )
    records = [make_record("HareLinear-v0", env_kwargs={"seed": i}) for i in range(5)]
    page = Page(write_report(records, tmp_path, "t", labels))
    files = sorted(path.name for path in tmp_path.glob("*-regret.png"))
    assert files == sorted(f"{name}-regret.png" for name in ("a-b", "a-b-2", "A-B-3", "environment", "overall-2"))
    assert sorted(attrs["id"] for attrs in page.all("section"))[:1] == ["A-B-3"]


def test_the_same_records_give_the_same_bytes(tmp_path):
    records = [make_record(agent=agent, seed=seed) for agent in ("random", "linucb") for seed in range(3)]
    write_report(records, tmp_path / "a", "t", LABELS)
    write_report(records[::-1], tmp_path / "b", "t", LABELS)
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes(), path.name


@pytest.mark.parametrize("seeds", [0, 1, 2])
def test_almost_nothing_finished_is_still_a_report(tmp_path, seeds):
    records = [make_record(agent=agent, seed=seed) for agent in ("random", "linucb") for seed in range(3)]
    records = [record if record["spec"]["seed"] < seeds else fail(record) | {"task": None} for record in records]
    page = Page(write_report(records, tmp_path, "t", LABELS))
    if seeds == 0:
        assert "No run on this environment finished" in page.text
        assert not page.all("img")
    else:
        assert len(page.all("img")) == 3
    assert ("a single finished seed" in page.text) == (seeds == 1)


def test_figures_leave_matplotlib_as_they_found_it():
    before = dict(matplotlib.rcParams)
    results = Results.from_records(study(2), LABELS)
    figures.regret_curves(results, "digits")
    assert dict(matplotlib.rcParams) == before


def test_curves_in_the_figure_are_the_means_over_seeds():
    results = Results.from_records(study(4), LABELS)
    plain, logarithmic = figures.regret_curves(results, "digits").axes
    assert (logarithmic.get_xscale(), logarithmic.get_yscale()) == ("log", "log")
    assert len(plain.lines) == 8
    heights = results.scores("digits").mean(axis=1)
    for line, agent in zip(plain.lines, results.agents, strict=True):
        assert np.asarray(line.get_ydata())[-1] == pytest.approx(heights[agent])
    assert [text.get_text() for text in plain.texts] == heights.sort_values().index.tolist()
    looks = {(line.get_color(), str(line.get_linestyle())) for line in plain.lines}
    assert len(looks) == 8


def test_twenty_agents_look_different_and_their_labels_do_not_overlap():
    records = [
        make_record(agent="linucb", agent_kwargs={"alpha": a / 10}, seed=seed) for a in range(20) for seed in (0, 1)
    ]
    results = Results.from_records(records)
    figure = figures.regret_curves(results, results.environments[0])
    looks = {(line.get_color(), repr(line._unscaled_dash_pattern)) for line in figure.axes[0].lines}
    assert len(looks) == 20
    places = [text.xyann[1] for text in figure.axes[0].texts]
    gaps = np.diff(sorted(places))
    assert gaps.min() > 0.9 * gaps.max() and max(places) <= 1.05


def test_forest_shows_the_loggers_own_rate():
    records = logged_study()
    for record in records:
        record["estimates"]["logger"] = {"value": 0.0038, "low": 0.003, "high": 0.005, "n": 10000}
    results = Results.from_records(records, LABELS)
    frame = tables.logged_frame(results, "HareReplay-v0")
    names = tables.estimators(results, "HareReplay-v0")
    assert names == ["replay", "ips", "snips", "dm", "dr"]
    figure = figures.off_policy_forest(frame, names, {"Random": 0, "LinUCB (joint)": 1}, frame.attrs["logger"])
    (legend,) = [axes.get_legend() for axes in figure.axes]
    assert "the logger's own rate" in [text.get_text() for text in legend.get_texts()]
    assert any(np.all(np.asarray(line.get_xdata()) == 0.0038) for line in figure.axes[0].lines)


QUIET = "--headless --disable-gpu --no-first-run --disable-sync --disable-component-update"


def browse(page, profile, *options):
    sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
    command = [
        CHROMIUM,
        *QUIET.split(),
        "--disable-background-networking",
        *sandbox,
        f"--user-data-dir={profile}",
        "--enable-logging=stderr",
        *options,
    ]
    return subprocess.run([*command, page.as_uri()], capture_output=True, timeout=120, check=True)


@pytest.fixture
def browser():
    if CHROMIUM is None:
        missing("No Chromium to open the report in. Install it, for instance with: apt-get install chromium")


def test_a_browser_opens_it_without_complaint(folder, browser, tmp_path):
    done = browse(folder / "index.html", tmp_path, "--dump-dom")
    dom = done.stdout.decode()
    assert dom.count("<img ") == 12 and "Statistics used" in dom
    assert b"CONSOLE" not in done.stderr, done.stderr.decode()


def test_the_browser_check_hears_complaints(browser, tmp_path):
    page = tmp_path / "page.html"
    policy = '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'">'
    page.write_text(f"<!doctype html>{policy}<img src='x.png'>")
    assert b"CONSOLE" in browse(page, tmp_path / "profile", "--dump-dom").stderr


@pytest.mark.parametrize("size", ["1200,1600", "390,1600"])
def test_a_browser_draws_it(folder, browser, tmp_path, size):
    picture = tmp_path / "picture.png"
    browse(folder / "index.html", tmp_path / "profile", f"--window-size={size}", f"--screenshot={picture}")
    pixels = matplotlib.image.imread(picture)
    assert pixels.shape[0] >= 1000
    assert pixels[..., :3].std() > 0.05  # something is drawn
