import csv
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest
from _board import entry, environment, manifest, run, run_set
from _browser import LOW_CONTRAST, complaints, open_browser, resize

from hare_evaluation.foundation import HareError
from hare_leaderboard import charts
from hare_leaderboard.ranking import rank_all
from hare_leaderboard.results import Disclosure, Flaw, Folder, ResultStore
from hare_leaderboard.site import TrackText, build_site

LEVELS = {"hare": 60, "linucb": 100, "linucb-hybrid": 115, "lints": 200, "random": 400}
BUILT = "2026-12-01T00:00:00Z"
HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(1)>\"'><svg onload=alert(1)>"
POLICY = (
    "default-src 'none'; style-src 'self'; img-src 'self'; script-src 'self'; base-uri 'none'; form-action 'none'"
)


def fill(store):
    for track, factor in (("bilinear-select", 1.0), ("skills-write", 0.5)):
        for name, level in LEVELS.items():
            if (name, track) == ("lints", "skills-write"):
                continue
            runs = run_set(name, track=track, level=level * factor)
            own = entry(
                authors=["Ada"] if name == "hare" else ["Bo"], licence="MIT" if name == "random" else "Apache-2.0"
            )
            store.add(runs.model_copy(update={"entry": own}))
    store.add(run_set("hare", level=90.0, created="2026-01-01T00:00:00Z"))
    store.add(run_set("newcomer", level=10.0, tier="self-reported"))
    runs = run_set("crasher", level=300.0, created="2024-01-01T00:00:00Z").runs
    bad = run(
        status="CRASH", reason="It ended with status 1.", output_tail="Traceback: boom", rounds=10, regret=490.0
    )
    store.add(run_set("crasher", created="2024-01-01T00:00:00Z").model_copy(update={"runs": [bad, *runs[1:]]}))
    store.add(run_set("linucb", benchmark="2025.1"))


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    root = tmp_path_factory.mktemp("board")
    store = ResultStore(root / "results")
    fill(store)
    out = root / "site"
    texts = {"bilinear-select": TrackText("Select", "Which item to show."), "skills-write": TrackText("Write")}
    assert build_site(rank_all(store.load(), list(texts)), out, texts, BUILT) == out / "index.html"
    return out


class Page(HTMLParser):
    def __init__(self, path):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data

    def all(self, name):
        return [attrs for tag, attrs in self.tags if tag == name]


def pages(out):
    return sorted(out.rglob("*.html"))


def broken_links(out):
    for path in pages(out):
        page = Page(path)
        for link in [a["href"] for a in page.all("a") + page.all("link")] + [s["src"] for s in page.all("script")]:
            if link.startswith("https://"):
                continue
            name, _, anchor = unquote(link).partition("#")
            target = (path.parent / name).resolve() if name else path.resolve()
            there = target.is_relative_to(out.resolve()) and target.is_file()
            if not there or (anchor and anchor not in {attrs.get("id") for _, attrs in Page(target).tags}):
                yield f"{path.name}: {link}"


def test_every_page_is_there_and_every_link_leads_somewhere(site):
    names = {path.relative_to(site).as_posix() for path in pages(site)}
    agents = {f"agent-{name}.html" for name in [*LEVELS, "newcomer", "crasher"]}
    tracks = {
        f"{kind}-{track}.html" for kind in ("track", "compare") for track in ("bilinear-select", "skills-write")
    }
    older = {
        "2025.1/index.html",
        "2025.1/method.html",
        "2025.1/agent-linucb.html",
        "2025.1/track-bilinear-select.html",
    }
    assert names == {"index.html", "method.html"} | agents | tracks | older
    assert not list(broken_links(site))
    assert "2025.1" in Page(site / "index.html").text


def test_the_link_check_sees_a_broken_link(tmp_path):
    (tmp_path / "a.html").write_text('<a href="b.html">b</a><a href="#x">x</a><a href="../../etc/passwd">p</a>')
    assert len(list(broken_links(tmp_path))) == 3


def test_pages_load_nothing_from_elsewhere_and_hold_no_inline_script_or_style(site):
    for path in pages(site):
        page = Page(path)
        assert {"http-equiv": "Content-Security-Policy", "content": POLICY} in page.all("meta")
        assert not page.all("style") and all("src" in attrs for attrs in page.all("script"))
        for tag, attrs in page.tags:
            assert "style" not in attrs and not any(name.startswith("on") for name in attrs)
            for name in ("src", "href"):
                assert not re.match(r"\w+:|//", attrs.get(name, "")), (tag, attrs)
    assert not re.search(r"https?:|url\(|@import", (site / "style.css").read_text())


def test_what_pages_say(site):
    index, track = Page(site / "index.html"), Page(site / "track-bilinear-select.html")
    assert "Entries7" in re.sub(r"\s+", "", index.text) and "2026-11-30" in index.text
    assert "hare has less regret than every other entry." in track.text
    assert "Reported by its author; we have not run it." in track.text
    assert "old" in track.text  # the crasher's run is of 2024
    agent = Page(site / "agent-crasher.html")
    assert "1 of 5 sessions ended in a fault" in agent.text and "It ended with status 1." in agent.text
    assert "Traceback: boom" in agent.text and "bwrap, protocol 1" in agent.text
    assert "Earlier or lower tier: 2026-01-01 (verified, 0." in re.sub(
        r"\s+", " ", Page(site / "agent-hare.html").text
    )


def test_data_can_be_downloaded(site):
    rows = list(csv.DictReader((site / "data/bilinear-select.csv").open()))
    assert rows[0]["submission"] == "hare" and len(rows) == 7
    assert float(rows[0]["mean_low"]) < float(rows[0]["mean"]) < float(rows[0]["mean_high"])
    sessions = list(csv.DictReader((site / "data/bilinear-select-sessions.csv").open()))
    assert len(sessions) == 7 * 7 and sum(row["status"] == "CRASH" for row in sessions) == 1
    files = list((site / "data/results/hare").glob("*.json"))
    assert len(files) == 3 and all(json.loads(path.read_text())["submission"] == "hare" for path in files)


def test_the_same_results_give_the_same_bytes(tmp_path):
    store = ResultStore(tmp_path / "results")
    fill(store)
    for name in ("a", "b"):
        build_site(rank_all(store.load()), tmp_path / name, built=BUILT)
    for path in filter(Path.is_file, (tmp_path / "a").rglob("*")):
        assert path.read_bytes() == (tmp_path / "b" / path.relative_to(tmp_path / "a")).read_bytes(), path.name


def test_an_empty_board_is_a_page_and_flaws_are_told(tmp_path):
    assert "There are no results yet." in Page(build_site([], tmp_path / "empty", built=BUILT)).text
    store = ResultStore(tmp_path / "results")
    path = store.add(run_set())
    store.remove(store.load().results[0], "It read the seeds.")
    store.add(run_set("lints"))
    folder = store.load()
    folder.flaws.append(Flaw(path, "x.json was edited"))
    index = Page(build_site(rank_all(folder), tmp_path / "site", built=BUILT))
    assert "1 file of results could not be trusted and does not count" in re.sub(r"\s+", " ", index.text)
    method = Page(tmp_path / "site/method.html")
    assert "x.json was edited" in method.text and "linucb on bilinear-select" in method.text
    assert "It read the seeds." in method.text


def test_a_new_build_leaves_nothing_of_the_old_one_and_no_other_folder_is_touched(tmp_path):
    store = ResultStore(tmp_path / "results")
    store.add(run_set("linucb"))
    site = tmp_path / "site"
    build_site(rank_all(store.load()), site, built=BUILT)
    stored = store.load().results[0]
    store.remove(stored, "It read the seeds.")
    store.add(run_set("lints"))
    build_site(rank_all(store.load()), site, built=BUILT)
    assert not (site / "agent-linucb.html").exists() and not (site / "data/results/linucb").exists()
    assert (site / "agent-lints.html").exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/agent-x.html").write_text("mine")
    with pytest.raises(HareError, match="has files in it that are no site of an earlier build"):
        build_site(rank_all(store.load()), tmp_path / "mine")
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["agent-x.html"]


def hostile_board():
    """Results that no schema has looked at."""
    own = entry().model_copy(
        update={
            "title": HOSTILE,
            "authors": [HOSTILE, "=cmd()"],
            "licence": HOSTILE,
            "description": HOSTILE + "\u202e\x00",
            "url": "javascript:alert(1)",
            "entry_point": HOSTILE,
            "configuration": {HOSTILE: HOSTILE},
            "disclosure": Disclosure.model_construct(
                language_model=HOSTILE, pretraining_data=HOSTILE, tuning_budget=HOSTILE
            ),
        }
    )
    bad = {"environment": HOSTILE, "reason": HOSTILE, "output_tail": HOSTILE}
    found = []
    for i, name in enumerate((HOSTILE, "../../../escaped", "..", "a\u202eb", "CON", "A", "a", "/etc/x", "")):
        runs = [run(seed=s, regret=100.0 + 20 * i + s).model_copy(update=bad) for s in range(3)]
        runs[0] = runs[0].model_copy(update={"status": "CRASH"})
        update = {
            "submission": name,
            "track": HOSTILE,
            "entry": own.model_copy(update={"title": own.title if i == 0 else name}),
            "runs": runs,
            "environments": [environment(hidden=3).model_copy(update={"label": HOSTILE, "id": HOSTILE})],
            "manifest": manifest().model_copy(update={"hardware": HOSTILE, "notes": [HOSTILE]}),
        }
        found.append(run_set().model_copy(update=update))
    return found


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    from hare_leaderboard.results import Stored

    root = tmp_path_factory.mktemp("hostile")
    source = root / "x.json"
    source.write_text("{}")
    stored = [Stored(runs, f"{i:064x}", source) for i, runs in enumerate(hostile_board())]
    out = root / "deep" / "site"
    build_site(rank_all(Folder(stored, flaws=[Flaw(Path(HOSTILE), HOSTILE)])), out, built=BUILT)
    return out


def test_hostile_names_are_shown_escaped_and_leave_no_folder(hostile):
    root = hostile.parent.parent
    assert sorted(path.name for path in root.iterdir()) == ["deep", "x.json"]
    for path in hostile.rglob("*"):
        assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", path.name), path
    names = [path.name.casefold() for path in hostile.iterdir()]
    assert len(names) == len(set(names)) and len([name for name in names if name.startswith("agent-")]) == 9
    assert not list(broken_links(hostile))
    for path in pages(hostile):
        source = path.read_text(encoding="utf-8")
        assert not re.search(r"<script>|<img|onload=alert\(1\)>\s*<|\u202e|\x00|href=.javascript", source), path.name
        page = Page(path)
        assert not page.all("img") and not any("onload" in attrs for attrs in page.all("svg"))
    assert "<script>alert(1)</script>" in Page(hostile / "index.html").text
    cells = [c for row in csv.reader((hostile / names_of(hostile, "sessions.csv")).open()) for c in row]
    assert not any(cell[:1] in ("=", "+", "@") for cell in cells)


def names_of(out, ending):
    (found,) = [path for path in out.glob("data/*") if path.name.endswith(ending)]
    return found.relative_to(out)


def test_curves_are_thinned_and_ticks_are_round():
    assert charts.thinned(list(range(1, 202)))[-1] == 200 and len(charts.thinned(list(range(1, 202)))) == 60
    assert charts.thinned([1, 2, 3]) == [0, 1, 2]
    assert charts._steps(74.3) == [0, 20, 40, 60]
    assert [charts.duration(x) for x in (0.5, 12.345, 999.9, 2500, 3e6, float("nan"))] == [
        "0.5 µs", "12.3 µs", "1 ms", "2.5 ms", "3 s", "–",
    ]  # fmt: skip


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    driver = open_browser(tmp_path_factory.mktemp("profile"))
    yield driver
    driver.quit()


def visit(driver, path):
    driver.get(path.as_uri())
    return driver


def column(driver, selector="[data-table] tbody th"):
    found = f"[...document.querySelectorAll({json.dumps(selector)})]"
    shown = ".filter((e) => e.closest('tr').getClientRects().length).map((e) => e.textContent)"
    return driver.execute_script(f"return {found}{shown}")


def test_no_page_complains_in_a_browser(site, hostile, browser):
    for path in [*pages(site), *pages(hostile)]:
        visit(browser, path)
        assert complaints(browser) == [], path.name
        assert browser.execute_script("return document.querySelectorAll('img, script:not([src])').length") == 0


def test_the_console_check_hears_complaints(browser, tmp_path):
    path = tmp_path / "bad.html"
    path.write_text(
        f'<!doctype html><meta http-equiv="Content-Security-Policy" content="{POLICY}"><script>1</script>'
    )
    visit(browser, path)
    assert "Content Security Policy" in complaints(browser)[0]["message"]


def test_tables_are_sorted_by_click_and_by_key(site, browser):
    from selenium.webdriver.common.keys import Keys

    visit(browser, site / "track-bilinear-select.html")
    heads = browser.find_elements("css selector", "[data-table] thead button")
    by_rank = column(browser)
    assert by_rank == ["hare", "linucb", "linucb-hybrid", "lints", "crasher", "random"]
    heads[1].click()
    assert column(browser) == sorted(by_rank)
    assert [h.get_attribute("aria-sort") for h in browser.find_elements("css selector", "thead th[aria-sort]")][
        :2
    ] == [
        "none",
        "ascending",
    ]
    heads[1].send_keys(Keys.ENTER)
    assert column(browser) == sorted(by_rank, reverse=True)
    heads[2].send_keys(Keys.SPACE)
    assert column(browser) == by_rank
    visit(browser, site / "index.html")
    browser.find_elements("css selector", "thead button")[2].click()  # lints and others have no value there
    assert column(browser)[-3:] == ["lints", "crasher", "newcomer"] or set(column(browser)[-3:]) == {
        "lints", "crasher", "newcomer",
    }  # fmt: skip
    browser.find_elements("css selector", "thead button")[2].click()
    assert column(browser)[0] == "random" and set(column(browser)[-3:]) == {"lints", "crasher", "newcomer"}


def test_tables_are_filtered(site, browser):
    visit(browser, site / "index.html")
    find = browser.find_element("css selector", "[data-filter=text]")
    count = browser.find_element("css selector", "[data-count]")
    assert count.text == "7 shown"
    find.send_keys("LINUCB bo")
    assert column(browser) == ["linucb", "linucb-hybrid"] and count.text == "2 of 7 shown"
    find.clear()
    find.send_keys("mit")
    assert column(browser) == ["random"]
    find.clear()
    find.send_keys("x")
    find.send_keys("\b")
    browser.execute_script("const s = document.querySelector('[data-filter=tier]'); s.value = 'self-reported';"
                           "s.dispatchEvent(new Event('change'))")  # fmt: skip
    assert column(browser) == ["newcomer"]


def test_everything_can_be_reached_by_keyboard(site, browser):
    from selenium.webdriver.common.keys import Keys

    visit(browser, site / "track-bilinear-select.html")
    reached = []
    for _ in range(40):
        browser.switch_to.active_element.send_keys(Keys.TAB)
        element = browser.switch_to.active_element
        if element.tag_name == "body":
            break  # the end of the page
        reached.append((element.tag_name, element.get_attribute("aria-label") or element.text))
        outline = browser.execute_script("return getComputedStyle(document.activeElement).outlineStyle")
        assert outline != "none", reached[-1]
    assert reached[0] == ("a", "Skip to content")
    tags = [tag for tag, _ in reached]
    assert tags.count("button") == 9 and "input" in tags
    assert ("div", "Table: ranked entries") in reached and ("a", "hare") in reached


def test_two_entries_are_compared(site, browser):
    visit(browser, site / "compare-bilinear-select.html")
    text = lambda: browser.find_element("css selector", "[data-verdict]").text  # noqa: E731
    assert text().startswith("hare has less regret than linucb: by 0.")
    rows = list(csv.DictReader((site / "data/bilinear-select.csv").open()))
    cells = [cell.text for cell in browser.find_elements("css selector", "[data-rows] td")]
    means = [float(rows[i]["mean"]) for i in (0, 1)]
    assert cells[0] == f"{means[0]:.3f}" and cells[1] == f"{means[1]:.3f}"
    values = [
        [float(r["normalised"]) for r in csv.DictReader((site / "data/bilinear-select-sessions.csv").open())
         if r["submission"] == name and r["seeds"] == "hidden"]
        for name in ("hare", "linucb")
    ]  # fmt: skip
    from hare_evaluation.statistics import paired_difference

    d = paired_difference([values[0]], [values[1]]).difference
    assert cells[2:] == [f"−{-d.value:.3f}", f"[−{-d.low:.3f}, −{-d.high:.3f}]", "5 of 5"]
    assert len(browser.find_elements("css selector", "[data-charts] polyline")) == 2
    choose = (
        "const s = document.querySelector('[data-side=\"1\"]'); s.value = '{}'; s.dispatchEvent(new Event('change'))"
    )
    browser.execute_script(choose.format(0))
    assert text() == "Choose two different entries."


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_texts_have_contrast(site, browser, dark):
    resize(browser, 1280, dark=dark)
    for name in ("index", "track-bilinear-select", "agent-crasher", "compare-bilinear-select", "method"):
        visit(browser, site / f"{name}.html")
        browser.execute_script("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
        seen, low = browser.execute_script(LOW_CONTRAST)
        assert seen > 15 and low == [], name


def test_the_contrast_check_sees_pale_text(browser, tmp_path):
    path = tmp_path / "pale.html"
    path.write_text("<!doctype html><p style='color:#999'>pale</p><p>dark</p>")
    visit(browser, path)
    assert browser.execute_script(LOW_CONTRAST) == [2, ["P pale"]]


def test_pages_fit_a_phone(site, hostile, browser):
    resize(browser, 390, 844)
    for path in [*pages(site), *pages(hostile)]:
        visit(browser, path)
        assert browser.execute_script("return document.documentElement.scrollWidth") <= 390, path.name
    resize(browser, 1280)
