"""The paper from end to end, on a plan that takes seconds: files, browser, resuming, verifying."""

import base64
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from _browser import complaints, open_browser, resize
from test_report import Page, browse, browser  # noqa: F401
from typer.testing import CliRunner

from hare_evaluation.cli import app
from hare_evaluation.pages import markers
from hare_evaluation.paper import run as paper_run
from hare_evaluation.paper.document import Cell, Table
from hare_evaluation.paper.plan import load_plan
from hare_evaluation.paper.verify import verify
from hare_evaluation.store import Store, canonical_json
from hare_gym.errors import ConfigError

ROOT = Path(__file__).parents[1]
PLAN = Path(__file__).parent / "data/paper/plan.yaml"
VERDICTS = {"h1": "supported", "h2": "not supported", "h3": "supported"}


def make(folder, *options):
    words = ["paper", "--plan", str(PLAN), "--scale", "tiny", "--jobs", "1"]
    words += ["--store", str(folder / "runs"), "--out", str(folder / "report"), *options]
    found = CliRunner().invoke(app, words)
    assert found.exit_code == 0, found.output
    return found.output


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("paper")
    (folder / "output.txt").write_text(make(folder))
    return folder


@pytest.fixture(scope="module")
def page(made):
    return Page(made / "report/index.html")


def test_the_time_is_stated_before_and_the_verdicts_after(made):
    output = (made / "output.txt").read_text()
    assert re.search(r"Scale tiny: a test\. 27 runs, .* about 1 minute with 1 at once", output)
    assert "H1 supported: LinUCB has less regret than random play, and its lead grows." in output
    assert "H2 not supported" in output


def test_every_verdict_is_on_the_page(page, made):
    manifest = json.loads((made / "report/manifest.json").read_text())
    assert manifest["verdicts"] == VERDICTS
    sections = {attrs["id"] for attrs in page.all("section")}
    assert {
        "verdicts",
        "before",
        "h1",
        "h2",
        "h3",
        "experiment-a",
        "ablations",
        "sensitivity",
        "made-with",
    } <= sections
    badges = [attrs["class"] for attrs in page.all("span") if attrs.get("class", "").startswith("badge")]
    assert badges.count("badge supported") >= 4 and badges.count("badge not-supported") >= 2


def test_numbers_lead_to_their_records(page, made):
    anchors = {attrs["id"] for tag, attrs in page.tags if "id" in attrs}
    links = [attrs["href"] for attrs in page.all("a")]
    inside = [link[1:] for link in links if link.startswith("#")]
    assert inside and set(inside) <= anchors
    assert sum(link.startswith("source-") for link in inside) > 15
    files = [link for link in links if not link.startswith(("#", "data:"))]
    assert all((made / "report" / link).resolve().exists() for link in files)
    records = [link for link in files if link.endswith(".json")]
    store = Store(made / "runs")
    assert {Path(link).stem for link in records} <= set(store.all_keys()) and len(set(records)) == 18  # no ε-greedy


def test_each_figures_data_is_one_click_away(page, made):
    downloads = {a["download"]: a["href"] for a in page.all("a") if "download" in a}
    assert len(downloads) == len(page.all("img")) == 6
    for name, link in downloads.items():
        content = base64.b64decode(link.partition("base64,")[2])
        assert content == (made / "report/data" / name).read_bytes() and content.count(b"\n") > 2


def test_the_page_needs_nothing_from_outside(page):
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    assert {"http-equiv": "Content-Security-Policy", "content": policy} in page.all("meta")
    assert not {tag for tag, _ in page.tags} & {"script", "link", "iframe", "object"}
    assert not re.search(r"https?:|@import|url\(", re.sub(r'(?:src|href)="data:[^"]*"', "", page.source))
    assert all(int(attrs["width"]) > 100 and int(attrs["height"]) > 50 for attrs in page.all("img"))


def test_files_lie_beside_the_page(made):
    report = made / "report"
    assert len([*(report / "figures").glob("*.svg")]) == len([*(report / "figures").glob("*.pdf")]) == 6
    assert all(path.read_bytes().startswith(b"%PDF") for path in (report / "figures").glob("*.pdf"))
    table = pd.read_csv(report / "tables/verdicts.csv")
    assert table["verdict"].dropna().tolist() == [*VERDICTS.values()]
    latex = (report / "tables/verdicts.tex").read_text()
    assert r"\toprule" in latex and r"$\ge$ 0.1" in latex and "≥" not in latex
    text = (report / "report.md").read_text()
    assert "## H2. Random play has half of LinUCB's regret." in text and "**Not supported.**" in text
    for target in re.findall(r"\]\((?!#)([^)]+)\)", text):
        assert (report / target).resolve().exists(), target


def test_effects_are_those_of_the_records(made):
    records = [*Store(made / "runs").records()]
    regret = {(record["spec"]["agent"], record["spec"]["seed"]): record["totals"]["regret"] for record in records}
    effect = np.mean([np.log(regret["random", s] / regret["linucb", s]) for s in range(9)])
    manifest = json.loads((made / "report/manifest.json").read_text())
    assert manifest["effects"]["h1/regret"] == pytest.approx(effect)
    assert manifest["records"] == {record["key"]: Store(made / "runs").digest(record["key"]) for record in records}


def test_the_same_command_runs_nothing_again(made, monkeypatch):
    monkeypatch.setattr("hare_evaluation.parallel.run", lambda spec: pytest.fail("a run was played again"))
    before = (made / "report/index.html").read_bytes()
    make(made)
    assert (made / "report/index.html").read_bytes() == before


def test_a_report_can_be_made_of_what_is_there(made, tmp_path):
    shutil.copytree(made / "runs", tmp_path / "runs")
    for key in Store(tmp_path / "runs").all_keys()[::3]:
        Store(tmp_path / "runs").path(key).unlink()
    make(tmp_path, "--no-play")
    found = json.loads((tmp_path / "report/manifest.json").read_text())
    assert len(found["records"]) == 18 and set(found["verdicts"]) == set(VERDICTS)
    make(tmp_path / "empty", "--no-play")
    assert "not run" in (tmp_path / "empty/report/report.md").read_text().lower()


def test_a_page_takes_the_verdicts(made, tmp_path):
    begin, end = markers("hare paper")
    (tmp_path / "results.md").write_text(f"# Results\n\n{begin}\nold\n{end}\n\nThe end.\n")
    make(made, "--page", str(tmp_path / "results.md"))
    text = (tmp_path / "results.md").read_text()
    assert "old" not in text and text.endswith("The end.\n")
    assert "| H2. Random play has half of LinUCB's regret. | not supported |" in text


def test_latex_escapes_what_it_would_read_as_marks():
    text = Table("t", "t", ["a_b", "50%"], [["x & y", Cell("−1 ≤ α")]]).latex()
    assert r"a\_b & 50\% \\" in text and r"x \& y & $-$1 $\le$ $\alpha$ \\" in text


def test_progress_is_told_with_an_estimate():
    lines = []
    progress = paper_run.Progress(100.0, lines.append, every=0.0, started=time.monotonic() - 60)
    progress.advance(50.0, "worlds")
    assert lines == ["50% done, about 1 minute left (worlds)"]
    assert [paper_run.duration(s) for s in (5, 95, 3600, 9000)] == [
        "1 minute",
        "2 minutes",
        "60 minutes",
        "2 hours 30 minutes",
    ]


# -- the browser ---------------------------------------------------------------------------------------------------


def test_a_browser_reads_it_without_complaint(made, browser, tmp_path):  # noqa: F811
    done = browse(made / "report/index.html", tmp_path, "--dump-dom")
    assert b"CONSOLE" not in done.stderr, done.stderr.decode()
    assert done.stdout.decode().count("<img ") == 6


PROBE = """
const box = e => e.getBoundingClientRect();
const rgb = c => c.match(/[\\d.]+/g).map(Number);
const linear = v => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
const light = c => { const f = rgb(c).slice(0, 3).map(linear);
  return 0.2126 * f[0] + 0.7152 * f[1] + 0.0722 * f[2]; };
const ground = e => { for (; e; e = e.parentElement) { const c = getComputedStyle(e).backgroundColor;
  if (rgb(c).length < 4 || rgb(c)[3] > 0) return c; } return 'rgb(255, 255, 255)'; };
const contrast = e => { const [a, b] = [light(getComputedStyle(e).color), light(ground(e))].sort((x, y) => y - x);
  return (a + 0.05) / (b + 0.05); };
const texts = [...document.querySelectorAll('h1, h2, h3, p, a, td, th, figcaption, summary, .badge')];
const scrolls = [...document.querySelectorAll('.scroll')].filter(e => !e.closest('details'));
return {
  figures: [...document.images].map(i => [i.naturalWidth, box(i).width, box(i).height]),
  badges: [...document.querySelectorAll('.badge')].map(e => e.textContent),
  contrast: Math.min(...texts.map(contrast)),
  dark: light(ground(document.body)) < 0.2,
  inverted: getComputedStyle(document.querySelector('.sheet')).filter,
  page: document.documentElement.scrollWidth, window: window.innerWidth,
  scrolls: scrolls.map(e => { e.scrollLeft = 1e6; return [e.scrollWidth, e.clientWidth, e.scrollLeft]; }),
};
"""


@pytest.fixture
def driver(tmp_path):
    driver = open_browser(tmp_path)
    yield driver
    driver.quit()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1200, 390])
def test_it_is_legible_light_and_dark_on_desk_and_phone(made, driver, scheme, width):
    resize(driver, width, dark=scheme == "dark")
    driver.get((made / "report/index.html").as_uri())
    found = driver.execute_script(PROBE)
    assert not complaints(driver)
    assert found["dark"] == (scheme == "dark") == ("invert" in found["inverted"])
    assert found["contrast"] >= 4.5  # WCAG AA
    assert len(found["figures"]) == 6 and all(n > 100 and w > 300 and h > 50 for n, w, h in found["figures"])
    assert found["badges"].count("supported") >= 4 and found["badges"].count("not supported") >= 2
    assert found["page"] <= found["window"] + 1  # tables and figures scroll within the page, never the page
    if width == 390:
        wide = [(whole, seen, at) for whole, seen, at in found["scrolls"] if whole > seen + 1]
        assert len(wide) >= 4 and all(at == whole - seen for whole, seen, at in wide)


# -- resuming and verifying ----------------------------------------------------------------------------------------


def start(folder):
    command = [sys.executable, "-m", "hare_evaluation.cli", "paper", "--plan", str(PLAN), "--scale", "longer"]
    command += ["--jobs", "1", "--store", str(folder / "runs"), "--out", str(folder / "report")]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def test_it_resumes_after_a_kill(made, tmp_path):
    shutil.copytree(made / "runs", tmp_path / "runs")  # 27 of the 36 runs
    store = Store(tmp_path / "runs")
    process = start(tmp_path)
    deadline = time.monotonic() + 120
    while len(store.all_keys()) <= 27 and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    kept = {key: store.path(key).stat().st_mtime_ns for key in store.all_keys()}
    process = start(tmp_path)
    _, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    assert len(store.all_keys()) == 36
    assert all(store.path(key).stat().st_mtime_ns == time_ for key, time_ in kept.items())
    assert json.loads((tmp_path / "report/manifest.json").read_text())["verdicts"].keys() == VERDICTS.keys()


def copied(made, folder):
    shutil.copytree(made / "runs", folder / "runs")
    shutil.copytree(made / "report", folder / "report")
    return folder / "report", Store(folder / "runs")


def verified(folder, *options):
    return CliRunner().invoke(app, ["paper", "--plan", str(PLAN), "--jobs", "1", "--verify", str(folder), *options])


def test_a_paper_is_verified(made):
    found = verified(made / "report")
    assert found.exit_code == 0, found.output
    assert "Verified: all 27 records have their hashes, 2 of them were played again" in found.output


def edit(store, key, hashed):
    """Makes a record's regret better by a tenth; with its hash put right, or not."""
    record = json.loads(store.path(key).read_bytes().partition(b"\n")[2])
    record["totals"]["regret"] *= 0.9
    body = canonical_json(record).encode() + b"\n"
    digest = hashlib.sha256(body).hexdigest() if hashed else store.digest(key)
    store.path(key).write_bytes(digest.encode() + b"\n" + body)


def test_an_edited_record_is_noticed(made, tmp_path):
    report, store = copied(made, tmp_path)
    key = store.all_keys()[3]
    edit(store, key, hashed=False)
    found = verified(report)
    assert found.exit_code == 1 and key in found.output and "does not match its sha256" in found.output
    edit(store, key, hashed=True)
    found = verified(report)
    assert found.exit_code == 1
    assert key in found.output and "the record was changed after the report was written" in found.output


def test_a_forgery_with_all_hashes_put_right_is_noticed_by_playing_again(made, tmp_path):
    report, store = copied(made, tmp_path)
    key = store.all_keys()[3]
    edit(store, key, hashed=True)
    manifest = json.loads((report / "manifest.json").read_text())
    manifest["records"][key] = store.digest(key)
    (report / "manifest.json").write_text(json.dumps(manifest))
    found = verify(report, load_plan(PLAN), share=1.0, jobs=1)
    assert found.replayed == 27
    assert f"{key}: played again, it differs in totals." in found.problems


def test_a_verdict_that_does_not_follow_is_noticed(made, tmp_path):
    report, _ = copied(made, tmp_path)
    manifest = json.loads((report / "manifest.json").read_text())
    manifest["verdicts"]["h2"] = "supported"
    manifest["effects"]["h2/regret"] = 0.9
    (report / "manifest.json").write_text(json.dumps(manifest))
    found = verify(report, load_plan(PLAN), jobs=1, seed=0)
    assert any("h2: the records say 'not supported', the report 'supported'" in each for each in found.problems)
    assert any("h2/regret: the records give" in each for each in found.problems)


def test_a_missing_record_and_a_missing_paper_are_named(made, tmp_path):
    report, store = copied(made, tmp_path)
    store.path(store.all_keys()[0]).unlink()
    assert any("the record is not there" in each for each in verify(report, load_plan(PLAN), jobs=1).problems)
    with pytest.raises(ConfigError, match="holds no paper that can be verified"):
        verify(tmp_path, load_plan(PLAN))


def test_the_pilot_prints_spreads(tmp_path):
    words = ["paper", "--plan", str(PLAN), "--scale", "tiny", "--jobs", "1", "--store", str(tmp_path), "--pilot"]
    found = CliRunner().invoke(app, words)
    assert found.exit_code == 0, found.output
    assert re.search(r"h3 reward: pilot: \{sd: 0\.\d+, seeds: 4\}", found.output)
    sets = {record["spec"]["seed_set"] for record in Store(tmp_path).records()}
    assert sets == {"paper-test-pilot"}


# -- the real plan, in small ---------------------------------------------------------------------------------------


@pytest.mark.slow
def test_every_section_is_filled_from_texts(tmp_path):
    """The shipped plan with three seeds of short sessions: every experiment is made, every section has a table."""
    text = (ROOT / "evaluation/suites/hypotheses.yaml").read_text()
    text = re.sub(r"seeds: \d+, horizon: [\d.]+\}", "seeds: 3, horizon: 0.04}", text)
    text = text.replace("paper-ten-rounds: {seeds: 6}", "paper-ten-rounds: {seeds: 2}")
    text = text.replace("texts: 6\n    rounds: 30\n    contents: 24", "texts: 2\n    rounds: 2\n    contents: 4")
    plan = tmp_path / "plan.yaml"
    plan.write_text(text)
    words = ["paper", "--plan", str(plan), "--scale", "small"]
    words += ["--store", str(tmp_path / "runs"), "--out", str(tmp_path / "report")]
    found = CliRunner().invoke(app, words)
    assert found.exit_code == 0, found.output
    page = (tmp_path / "report/report.md").read_text()
    page = re.sub(r"^(```+)text\n.*?^\1$", "", page, flags=re.MULTILINE | re.DOTALL)  # skills have headlines too
    assert "Not run" not in page and "Not drawn" not in page
    sections = re.split(r"^## ", page, flags=re.MULTILINE)[1:]
    empty = [section.partition("\n")[0] for section in sections[:-2] if "| --- |" not in section]
    assert not empty
    assert len([*(tmp_path / "report/figures").glob("*.svg")]) >= 15


@pytest.mark.slow
def test_the_page_of_simulated_studies_holds():
    """A tenth of the studies of docs/statistics.md again: what it says of planted effects and nulls holds."""
    words = ["paper", "--scale", "full", "--simulate", "20"]
    found = CliRunner().invoke(app, words)
    assert found.exit_code == 0, found.output
    rows = [line.split("|") for line in found.output.splitlines() if line.startswith("| smallest")]
    assert len(rows) == 6
    for row in rows:
        shares = [float(cell.split("%")[0]) for cell in row[4:7] if "%" in cell]
        assert min(shares) >= 95.0, row
