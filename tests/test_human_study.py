"""A study with people: balanced orders, blind sheets, a form that loses nothing, an analysis that finds effects."""

import json
import shutil
import threading
import urllib.error
import urllib.request
from itertools import pairwise

import numpy as np
import pytest
from _browser import complaints, open_browser, resize

from hare_evaluation.human_study import analysis, sheets
from hare_evaluation.human_study.answers import FIELDS, Answers
from hare_evaluation.human_study.design import SCALES, SIDES, placements, williams
from hare_evaluation.human_study.form import server
from hare_evaluation.runner import run
from hare_evaluation.spec import RunSpec
from hare_gym.errors import ConfigError, DataError

KNOBS = {"horizon": 60, "num_users": 4, "action_mode": "write"}


@pytest.mark.parametrize("n", [2, 4, 10])
def test_each_round_stands_once_in_each_place_and_once_behind_each_other(n):
    square = williams(n)
    for column in square.T:
        assert sorted(column) == list(range(n))
    behind = {(a, b) for row in square.tolist() for a, b in pairwise(row)}
    assert len(behind) == n * (n - 1)


def test_an_odd_number_of_rounds_has_no_such_square():
    with pytest.raises(ValueError, match="even size of at least 2, not 5"):
        williams(5)


def test_positions_are_balanced_within_and_between_participants():
    placed = placements(20, 10, np.random.default_rng(0))
    left = np.array(
        [[place.first_is_a for place in sorted(sheet, key=lambda place: place.round)] for sheet in placed]
    )
    assert (left.sum(axis=1) == 5).all()
    assert (left.sum(axis=0) == 10).all()
    for even, odd in zip(placed[::2], placed[1::2], strict=True):
        assert [place.round for place in even] == [place.round for place in odd]
        assert all(a.first_is_a != b.first_is_a for a, b in zip(even, odd, strict=True))


@pytest.fixture(scope="module")
def records():
    composed = {"decoder": "composer"}
    return tuple(
        run(RunSpec("HareSkills-v0", "writer", "quick", 0, KNOBS, {"agent": agent, **composed}))[0]
        for agent in ("hare", "rag")
    )


@pytest.fixture(scope="module")
def made(records, tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    sheets.write_study(folder, ("HARE", "RAG"), [records], participants=4, rounds=4, seed=0)
    return folder


@pytest.fixture
def study(made, tmp_path):
    return shutil.copytree(made, tmp_path / "study")


def test_sheets_tell_nobody_which_text_is_whose(study, records):
    key = json.loads((study / "key.json").read_text())
    texts = {
        name: {each.text for each in sheets.texts_of(record)[0]} for name, record in zip("ab", records, strict=True)
    }
    assert len(key["sheets"]) == 4
    for code, hidden in key["sheets"].items():
        raw = (study / "sheets" / f"{code}.json").read_text()
        sheet = json.loads(raw)
        assert not {"HARE", "RAG", "hare", "writer", "first_is"} & set(raw.replace('"', " ").split())
        assert sheet.keys() == {"code", "person", "rounds"}
        for shown, round in zip(sheet["rounds"], hidden["rounds"], strict=True):
            assert shown.keys() == {"query", "a", "b"}
            assert shown["a"] != shown["b"]
            other = "b" if round["first_is"] == "a" else "a"
            assert shown[round["first_is"]] in texts["a"]
            assert shown[other] in texts["b"]
    assert len({(sheet["seed"], sheet["user"]) for sheet in key["sheets"].values()}) == 4


def test_a_card_says_what_the_person_is(study):
    sheet = json.loads(next((study / "sheets").glob("*.json")).read_text())
    works, level, depth, style = sheet["person"]
    assert works.startswith("works in ") and "%" in works
    assert level.startswith(("is a ", "is an "))
    assert "general" in depth or "balanced" in depth or "specific" in depth
    assert style.startswith("likes the style of a ")


def test_what_cannot_become_a_study_is_said(study, records, tmp_path):
    with pytest.raises(ConfigError, match="There is a study in"):
        sheets.write_study(study, ("HARE", "RAG"), [records], 4, 4, 0)
    with pytest.raises(ConfigError, match="must be even"):
        sheets.write_study(tmp_path, ("HARE", "RAG"), [records], 4, 5, 0)
    with pytest.raises(DataError, match="There are 4 users for 9 participants"):
        sheets.write_study(tmp_path, ("HARE", "RAG"), [records], 9, 4, 0)
    with pytest.raises(DataError, match="No user came 58 times"):
        sheets.write_study(tmp_path, ("HARE", "RAG"), [records], 4, 58, 0)
    other = {**records[1], "spec": {**records[1]["spec"], "seed": 1}}
    with pytest.raises(DataError, match="differ in seed: both agents must have served the same people"):
        sheets.pairs(records[0], other, 4)
    changed = {**records[0], "actions_sha256": "0" * 64}
    with pytest.raises(DataError, match="went another way: the code has changed"):
        sheets.texts_of(changed)


@pytest.mark.parametrize(
    ("round", "field", "value", "says"),
    [
        (9, "choice", "a", "There is no round 9: they go from 0 to 3"),
        (True, "choice", "a", "There is no round True"),
        (0, "name", "Ada", "There is no question 'name'. Known: a.depth"),
        (0, "a.fit", 6, "a.fit is 6: it must be one of 1, 2, 3, 4, 5"),
        (0, "a.fit", True, "it must be one of"),
        (0, "a.fit", 3.0, "it must be one of"),
        (0, "choice", "c", "it must be one of a, b"),
    ],
)
def test_an_answer_that_is_none_is_refused(study, round, field, value, says):
    answers = Answers(study)
    with pytest.raises(DataError, match=says):
        answers.put(answers.codes[0], round, field, value)
    assert not list((study / "answers").iterdir())


@pytest.mark.parametrize("code", ["P01-00000000", "../key", "P01"])
def test_a_code_that_is_none_opens_nothing(study, code):
    with pytest.raises(DataError, match="There is no such sheet"):
        Answers(study).sheet(code)


@pytest.fixture
def form(study):
    serving = server(Answers(study))
    threading.Thread(target=serving.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{serving.server_address[1]}"
    serving.shutdown()
    serving.server_close()


def test_the_form_takes_answers_and_nothing_else(form, study):
    code = Answers(study).codes[0]

    def call(path, body=None, method="GET"):
        try:
            with urllib.request.urlopen(urllib.request.Request(form + path, body, method=method)) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    said = json.dumps({"round": 0, "field": "a.fit", "value": 4}).encode()
    assert call(f"/sheet/{code}", said, "PUT") == (200, b'{"done": 0}')
    assert json.loads(call(f"/sheet/{code}")[1])["answers"][0]["a.fit"] == 4
    for body in (b"", b"{", b"[]", b"\xff", b'{"round": 0}'):
        status, told = call(f"/sheet/{code}", body, "PUT")
        assert (status, json.loads(told)["detail"]) == (400, "An answer is JSON with round, field and value.")
    assert call(f"/sheet/{code}", b"x" * 5000, "PUT")[0] == 413
    assert call("/sheet/..%2fkey")[0] == 400
    assert call("/key.json")[0] == 404
    assert "frame-ancestors 'none'" in urllib.request.urlopen(form).headers["Content-Security-Policy"]


def test_a_person_can_fill_it_in_by_keyboard_and_come_back(form, study, tmp_path):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys
    from selenium.webdriver.support.ui import WebDriverWait

    answers = Answers(study)
    code = answers.codes[1]
    with open_browser(tmp_path / "profile") as driver:
        wait = WebDriverWait(driver, 20)
        driver.get(f"{form}/#{code}")
        wait.until(lambda _: "Round 1 of 4, 0 answered" in driver.page_source)
        driver.find_element(By.ID, "next").click()
        assert driver.find_element(By.ID, "saved").text == "Some questions of this round are still open."
        fields = [f"{side}.{scale}" for side in SIDES for scale in SCALES]
        driver.find_element(By.CSS_SELECTOR, "pre").send_keys(Keys.TAB)
        for k, field in enumerate(fields):
            # a group of buttons is entered by Tab, and Space and the arrows choose in it
            driver.switch_to.active_element.send_keys(Keys.SPACE)
            for _ in range(k % 5):
                driver.switch_to.active_element.send_keys(Keys.ARROW_RIGHT)
            wait.until(lambda _, field=field, k=k: answers.of(code)[0].get(field) == k % 5 + 1)
            driver.switch_to.active_element.send_keys(Keys.TAB)
            if field == fields[len(SCALES) - 1]:  # past the second text
                driver.switch_to.active_element.send_keys(Keys.TAB)
        driver.refresh()
        wait.until(lambda _: driver.find_elements(By.CSS_SELECTOR, "input[name='b.use']:checked"))
        kept = [driver.find_element(By.CSS_SELECTOR, f"input[name='{field}']:checked") for field in fields]
        assert [int(one.get_attribute("value")) for one in kept] == [k % 5 + 1 for k in range(8)]
        driver.find_element(By.CSS_SELECTOR, "input[name=choice]").send_keys(Keys.SPACE)
        wait.until(lambda _: "1 answered" in driver.page_source)
        driver.find_element(By.ID, "next").send_keys(Keys.ENTER)
        wait.until(lambda _: "Round 2 of 4, 1 answered" in driver.page_source)
        assert answers.done(code) == 1
        resize(driver, 390)
        width = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
        assert driver.execute_script(width) == 0
        driver.get(f"{form}/#P99-00000000")
        driver.refresh()
        wait.until(lambda _: "There is no such sheet" in driver.find_element(By.ID, "saved").text)
        assert not [entry for entry in complaints(driver) if "400" not in entry["message"]]


def test_hostile_texts_are_shown_as_text(form, study, tmp_path):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import WebDriverWait

    code = Answers(study).codes[0]
    path = study / "sheets" / f"{code}.json"
    sheet = json.loads(path.read_text())
    hostile = "<img src=x onerror=\"document.title='owned'\"></pre><script>document.title='owned'</script>"
    sheet["rounds"][0] |= {"a": hostile, "query": hostile}
    path.write_text(json.dumps(sheet))
    with open_browser(tmp_path / "profile") as driver:
        driver.get(f"{form}/#{code}")
        WebDriverWait(driver, 20).until(lambda _: driver.find_elements(By.CSS_SELECTOR, "pre"))
        assert driver.find_element(By.CSS_SELECTOR, "pre").text == hostile
        assert driver.title == "Which text suits this person?"
        assert not driver.find_elements(By.CSS_SELECTOR, "pre img")


def answered(study, better):
    """All sheets answered by raters who like the texts of one condition better."""
    answers = Answers(study)
    key = json.loads((study / "key.json").read_text())
    for code, hidden in key["sheets"].items():
        for t, round in enumerate(hidden["rounds"]):
            first = round["first_is"]
            good = first if better == "first" else ("b" if first == "a" else "a")
            for side in SIDES:
                for scale in SCALES:
                    answers.put(code, t, f"{side}.{scale}", 4 + t % 2 if side == good else 2)
            answers.put(code, t, "choice", good)


@pytest.mark.parametrize("better", ["first", "second"])
def test_unblinding_puts_every_answer_on_the_right_side(study, better):
    answered(study, better)
    rows, conditions = analysis.table(study)
    assert conditions == ("HARE", "RAG")
    assert len(rows) == 16
    assert (rows["choice"] == (better == "first")).all()
    assert ((rows["fit_first"] > rows["fit_second"]) == (better == "first")).all()
    found = analysis.analyse(rows)
    assert {np.sign(finding.effect) for finding in found} == {1.0 if better == "first" else -1.0}


def test_an_unfinished_round_is_left_out_and_nobody_is_said(study):
    with pytest.raises(DataError, match="Nobody has finished a round yet"):
        analysis.table(study)
    answers = Answers(study)
    for field in FIELDS - {"choice"}:
        answers.put(answers.codes[0], 0, field, 3)
    with pytest.raises(DataError, match="Nobody has finished a round yet"):
        analysis.table(study)
    answers.put(answers.codes[0], 0, "choice", "a")
    rows, _ = analysis.table(study)
    with pytest.raises(DataError, match="Fewer than three participants"):
        analysis.analyse(rows)


def test_in_a_balanced_study_the_mixed_model_is_the_paired_t_test():
    from scipy import stats

    rows = analysis.simulated(np.random.default_rng(3), 0.3, between=0.6)
    found = next(f for f in analysis.analyse(rows) if f.name == "fit")
    means = (rows["fit_first"] - rows["fit_second"]).groupby(rows["participant"]).mean()
    assert found.effect == pytest.approx(means.mean(), abs=1e-6)
    assert found.p_mixed == pytest.approx(stats.ttest_1samp(means, 0.0).pvalue, rel=0.1)


@pytest.mark.parametrize("studies", [4, pytest.param(60, marks=pytest.mark.slow)])
def test_a_planted_effect_is_found_and_a_planted_null_is_not(studies):
    told = analysis.dry_run([-0.6, 0.0, 0.6], studies).set_index("planted")
    assert told.loc[0.6, "any_scale"] == 1.0
    assert told.loc[0.6, "per_scale"] > 0.8
    assert told["wrong"].max() <= max(1, round(0.1 * studies)) / studies
    assert told.loc[-0.6, "any_scale"] == 0.0
    assert told.loc[0.6, "estimate"] == pytest.approx(0.57, abs=0.12)  # rounding to five points costs some


def test_power_is_what_simulation_says():
    """For one test of the mixed model at 5%, on ratings that are not rounded."""
    rng = np.random.default_rng(0)
    found = 0
    for _ in range(4000):
        effects = 0.25 + rng.normal(0, 0.25, 20) + rng.normal(0, (1.4 / 10) ** 0.5, 20)
        found += abs(effects.mean() / (effects.std(ddof=1) / 20**0.5)) > 2.093
    assert found / 4000 == pytest.approx(analysis.power(0.25, 20), abs=0.025)
    assert analysis.power(0.45, 20, tests=5) > 0.9
    assert analysis.power(0.0, 20) == pytest.approx(0.05)


def test_the_commands_make_a_study_and_analyse_it(in_process, tmp_path, records):
    from hare_evaluation.store import Store

    suite = tmp_path / "tiny.yaml"
    suite.write_text(
        "name: tiny\nseeds: {set: quick, count: 1}\n"
        "environments:\n"
        "  - {id: HareSkills-v0, label: write, kwargs: {horizon: 60, num_users: 4, action_mode: write}}\n"
        "agents:\n"
        "  - {name: writer, label: HARE writes, kwargs: {agent: hare, decoder: composer}}\n"
        "  - {name: writer, label: RAG writes, kwargs: {agent: rag, decoder: composer}}\n"
    )
    code, _, err = in_process("study", "sheets", "made", "--suite", suite)
    assert (code, "There are no records of" in err, "hare run" in err) == (2, True, True)
    for record in records:
        Store(tmp_path / "runs").commit(record)
    code, out, _ = in_process("study", "sheets", "made", "--suite", suite, "--participants", 4, "--rounds", 4)
    assert code == 0
    assert "4 sheets are in made/sheets. Leave made/key.json closed" in out
    code, _, err = in_process("study", "sheets", "x", "--suite", suite, "--first", "HARE wrties")
    assert (code, "Did you mean 'HARE writes'?" in err) == (2, True)
    answered(tmp_path / "made", "first")
    code, out, _ = in_process("study", "analyse", "made")
    assert code == 0
    assert "4 participants, 16 rounds. Positive numbers are for HARE writes" in out
    assert (tmp_path / "made/findings.md").read_text().strip() == out.strip()
    assert len(json.loads((tmp_path / "made/findings.json").read_text())["findings"]) == 5
