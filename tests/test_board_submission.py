import os
import stat
import zipfile
from hashlib import sha256
from pathlib import Path

import pytest
import yaml

from hare_evaluation.foundation import HareError, make_agent
from hare_leaderboard import checking, packages
from hare_leaderboard.benchmark import load_benchmark
from hare_leaderboard.checking import check, new
from hare_leaderboard.packages import prepare
from hare_leaderboard.submission import FILE, SubmissionError, load

TRACKS = {
    "bilinear-select": [("HareBilinear-v0", {"num_items": 12, "num_clusters": 4, "num_users": 5, "horizon": 60})],
    "classification": [("HareClassification-v0", {"table": "wine", "horizon": 60})],
}


@pytest.fixture
def folder(tmp_path):
    return new("my-agent", tmp_path, list(TRACKS))


def rewrite(folder, **changes):
    values = yaml.safe_load((folder / FILE).read_text())
    for name, value in changes.items():
        if value is None:
            del values[name]
        else:
            values[name] = value
    (folder / FILE).write_text(yaml.safe_dump(values, allow_unicode=True))


def told(folder, tracks=TRACKS):
    return "\n".join(map(str, check(folder, tracks)))


def test_the_template_passes(folder):
    lines = []
    assert check(folder, TRACKS, lines.append) == []
    assert lines[0] == "submission.yaml: my-agent 0.1.0, licence Apache-2.0"
    assert lines[1].startswith("code: 2 files, ")
    assert lines[2] == "contract, agent_my_agent:MyAgent: kept, plays select"
    assert "60 rounds, mean reward 0." in lines[3] and "(random: 0." in lines[3] and "µs to act" in lines[3]
    assert len(lines) == 5


@pytest.mark.parametrize("name", ["", "a/b", "../a", ".a", "a" * 65, "<b>", "a b", "ä", "a\u202eb", "a\n"])
def test_a_submission_cannot_be_called_anything(tmp_path, name):
    with pytest.raises(SubmissionError, match="cannot be a submission's name"):
        new(name, tmp_path, ["a"])
    assert not list(tmp_path.iterdir())


def test_new_replaces_nothing_even_where_case_does_not_count(tmp_path, folder):
    with pytest.raises(SubmissionError, match="It is there already"):
        new("My-Agent", tmp_path, ["a"])
    (tmp_path / "file").write_text("")
    with pytest.raises(HareError, match="cannot be written"):
        new("x", tmp_path / "file", ["a"])


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"licence": "Apache 2"}, "licence: 'Apache 2' is no SPDX licence expression. Did you mean 'Apache-2.0'?"),
        ({"licence": None}, "licence: It is missing. Add an SPDX identifier, for instance: licence: Apache-2.0"),
        ({"license": "MIT"}, "submission.yaml, license: There is no such field. Did you mean 'licence'?"),
        ({"name": "other"}, "The name is 'other', but the folder is called 'my-agent'. Give both the same name."),
        ({"name": "a\u202eb"}, "submission.yaml, name: Must be 1 to 64 of"),
        ({"name": "<b>x</b>"}, "submission.yaml, name: Must be 1 to 64 of"),
        ({"title": "a\u202eb"}, "Must be one line of visible characters; it holds U+202E RIGHT-TO-LEFT OVERRIDE"),
        ({"title": "x" * 65}, "submission.yaml, title: String should have at most 64 characters"),
        ({"authors": ["a\x07"]}, "authors.0: Must be one line of visible characters; it holds U+0007"),
        ({"authors": []}, "submission.yaml, authors: List should have at least 1 item"),
        ({"url": "javascript:alert(1)"}, "submission.yaml, url: Must be an https address, not 'javascript:alert(1)'"),
        ({"url": "http://example.org"}, "submission.yaml, url: Must be an https address"),
        ({"entry_point": "os.system('x')"}, "must look like 'module:Class', or be an installed agent's name"),
        ({"configuration": {"x": "y" * 20_000}}, "configuration: Must have at most 16,000 characters"),
        ({"configuration": {"x": float("nan")}}, "configuration"),
        ({"schema": 2}, "submission.yaml, schema: Input should be 1; given was 2."),
        ({"tracks": ["bilinear-selekt"]}, "Unknown track 'bilinear-selekt'. Did you mean 'bilinear-select'?"),
        ({"tracks": {"classification": {"entrypoint": "a:B"}}}, "classification.entrypoint: There is no such field."),
        ({"tracks": {"classification": {"entrypoint": "a:B"}}}, "Did you mean 'entry_point'?"),
        ({"tracks": []}, "submission.yaml, tracks: Dictionary should have at least 1 item"),
        ({"disclosure": {"language_model": "none"}}, "disclosure.tuning_budget: It is missing. Say how"),
        ({"requires": ["no-such-thing-as-this"]}, "'no-such-thing-as-this' is not installed."),
    ],
)  # fmt: skip
def test_each_mistake_in_the_file_is_named_with_its_fix(folder, changes, text):
    rewrite(folder, **changes)
    assert text.casefold() in told(folder).casefold()


def test_all_mistakes_are_told_at_once(folder):
    rewrite(folder, licence="x", url="y", version=None)
    assert len(check(folder, TRACKS)) == 3


def test_an_entry_says_what_is_different_on_a_track(folder):
    rewrite(
        folder,
        tracks={
            "bilinear-select": None,
            "classification": {"entry_point": "linucb", "configuration": {"alpha": 1.0}},
        },
    )
    submission = load(folder)
    assert submission.on("bilinear-select") == ("agent_my_agent:MyAgent", {"epsilon": 0.05})
    assert submission.on("classification") == ("linucb", {"epsilon": 0.05, "alpha": 1.0})
    assert submission.entry("classification", "0" * 64).entry_point == "linucb"


def test_yaml_builds_no_objects_and_repeats_nothing(folder):
    marker = folder.parent / "made"
    for text, told_of in (
        (f"name: !!python/object/apply:os.mkdir ['{marker}']", "could not determine a constructor"),
        ("a: &a [x, x]\nb: [*a, *a]", "aliases are not allowed"),
        ("name: a\nname: b", "the key 'name' is given twice"),
        ("[" * 20_000, "is not YAML that can be used"),
        ("when: 2026-02-31", "is not YAML that can be used"),
        ("x", "It must be a mapping of fields. Begin with the template"),
        ("#" * 64_001, "is larger than 64,000 bytes"),
    ):
        (folder / FILE).write_text(text)
        assert told_of in told(folder)
    assert not marker.exists()
    (folder / FILE).unlink()
    assert "There is no such file. Make a template with: hare leaderboard new my-agent" in told(folder)
    (folder / FILE).symlink_to("/etc/passwd")
    assert "It is a link. Put the file itself there." in told(folder)


def test_what_may_not_lie_in_the_folder(folder, monkeypatch):
    def with_file(name, make):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        make(path)
        found = told(folder)
        path.unlink()
        return found

    touch = Path.touch
    assert "It is a link." in with_file("data", lambda path: path.symlink_to("/etc"))
    assert "It is a link." in with_file("x/notes.txt", lambda path: path.symlink_to("/etc/passwd"))
    assert "It is no plain file. Leave it out." in with_file("pipe", os.mkfifo)
    assert "Pickles run code when they are read, and are not accepted." in with_file("weights.pkl", touch)
    assert "It would stand before the module 'json'." in with_file("json.py", touch)
    assert "It would stand before the module 'numpy'." in with_file("numpy/__init__.py", touch)
    assert "The name holds U+202E RIGHT-TO-LEFT OVERRIDE." in with_file("a\u202eb.py", touch)
    assert "There are two files of this name." in with_file("license", touch)
    monkeypatch.setattr(packages, "MAX_FILE", 50_000)
    big = with_file("a.npz", lambda path: path.write_bytes(b"x" * 50_001))
    assert "It has more than the 50,000 bytes that are left." in big
    monkeypatch.setattr(packages, "MAX_FILES", 2)
    assert "There are more than 2 files." in with_file("a.txt", touch)
    (folder / "LICENSE").unlink()
    assert "The licence's text is missing. Add the text of Apache-2.0 as the file LICENSE." in told(folder)


def test_hidden_files_and_caches_are_not_part_of_it(folder, tmp_path):
    for name in (".git/config", "__pycache__/x.pyc"):
        (folder / name).parent.mkdir()
        (folder / name).touch()
    target = tmp_path / "target"
    digest = prepare(folder, load(folder), target)
    assert sorted(path.name for path in target.iterdir()) == ["LICENSE", "agent_my_agent.py"]
    (folder / "agent_my_agent.py").write_text("x = 1")
    assert prepare(folder, load(folder), tmp_path / "again") != digest


def wheel(folder, members, name="my_agent-0.1.0-py3-none-any.whl", **changes):
    path = folder / name
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, data in members:
            archive.writestr(member, data)
    rewrite(folder, wheel={"file": name, "sha256": sha256(path.read_bytes()).hexdigest(), **changes})


def member(name, mode):
    info = zipfile.ZipInfo(name)
    info.external_attr = mode << 16
    return info


def test_a_pinned_wheel_stands_for_the_folder(folder):
    code = (folder / "agent_my_agent.py").read_text()
    (folder / "agent_my_agent.py").unlink()
    wheel(folder, [("agent_my_agent.py", code), ("my_agent-0.1.0.dist-info/METADATA", "x")])
    assert told(folder) == ""
    wheel(folder, [("agent_my_agent.py", code)], sha256="0" * 64)
    assert "but submission.yaml says 000" in told(folder) and "Write the right one into wheel.sha256." in told(folder)


@pytest.mark.parametrize(
    ("bad", "text"),
    [
        (("../escaped.py", "x"), "The name leads out of the folder."),
        (("/escaped.py", "x"), "The name leads out of the folder."),
        (("a/../../escaped.py", "x"), "The name leads out of the folder."),
        (("a\\..\\b.py", "x"), "The name holds a zero byte or a backslash."),
        ((member("link", stat.S_IFLNK | 0o777), "/etc/passwd"), "It is a link or a special file."),
        ((member("pipe", stat.S_IFIFO | 0o644), ""), "It is a link or a special file."),
        (("x.data/scripts/run", "x"), "A wheel with a .data folder needs installing."),
        (("a.joblib", "x"), "Pickles run code"),
        (("Agent_My_Agent.py", "x"), "There are two files of this name."),
        (("os.py", "x"), "It would stand before the module 'os'."),
        (("bomb.npz", b"\0" * 300_000), "It has more than the 200,000 bytes that are left."),
    ],
)  # fmt: skip
def test_a_wheel_cannot_leave_its_folder_or_grow(folder, tmp_path, monkeypatch, bad, text):
    monkeypatch.setattr(packages, "MAX_FILE", 200_000)
    wheel(folder, [("agent_my_agent.py", "x"), bad])
    assert text in told(folder)
    target = tmp_path / "inner" / "target"
    with pytest.raises(SubmissionError):
        prepare(folder, load(folder), target)
    assert not (tmp_path / "escaped.py").exists() and not (tmp_path / "inner/escaped.py").exists()


def test_a_wheel_that_lies_about_its_sizes_is_refused(folder):
    wheel(folder, [("agent_my_agent.py", "x" * 1000)])
    path = folder / "my_agent-0.1.0-py3-none-any.whl"
    for broken in (
        path.read_bytes().replace((1000).to_bytes(4, "little"), (10).to_bytes(4, "little")),
        path.read_bytes()[:-30],
        b"not a zip",
    ):
        path.write_bytes(broken)
        rewrite(folder, wheel={"file": path.name, "sha256": sha256(broken).hexdigest()})
        assert "It cannot be unpacked" in told(folder) or "It is no zip file that can be read" in told(folder)
    many = folder / "many.zip"
    with zipfile.ZipFile(many, "w") as archive:
        for i in range(20_000):
            archive.writestr(f"{i}.txt", "")
    path.write_bytes(many.read_bytes())
    many.unlink()
    rewrite(folder, wheel={"file": path.name, "sha256": sha256(path.read_bytes()).hexdigest()})
    assert "Its table of contents is too long." in told(folder)


def changed(folder, old, new_text):
    path = folder / "agent_my_agent.py"
    code = path.read_text()
    assert old in code
    path.write_text(code.replace(old, new_text))


@pytest.mark.parametrize(
    ("old", "new_text", "text"),
    [
        ("import numpy as np", "import numpi as np", "there is no module 'numpi'"),
        ("return int(usable[", "return float(usable[", "act() returned float"),
        ("class MyAgent", "x = 1 / 0\nclass MyAgent", "at agent_my_agent.py, line 8: x = 1 / 0: ZeroDivisionError"),
        ("class MyAgent", "import os\nos._exit(3)\nclass MyAgent", "The agent's process ended with status 3."),
    ],
)  # fmt: skip
def test_code_that_breaks_the_contract_is_told_where(folder, old, new_text, text):
    changed(folder, old, new_text)
    assert text in told(folder)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("old", "new_text", "text"),
    [
        ("class MyAgent", "class YourAgent", "Unknown class in agent_my_agent 'MyAgent'"),
        ("self.b += reward * phi", "self.b += missing", "update() raised NameError"),
        ("epsilon=0.05, ridge", "eps=0.05, ridge", "does not accept ['epsilon']"),
        ("class MyAgent", "import os\nos.kill(os.getpid(), 11)\nclass MyAgent", "was ended by SIGSEGV"),
        ("class MyAgent", "import time\ntime.sleep(60)\nclass MyAgent", "did not finish within 2 seconds"),
    ],
)  # fmt: skip
def test_code_that_breaks_in_other_ways_is_told_too(folder, monkeypatch, old, new_text, text):
    changed(folder, old, new_text)
    if "sleep" in new_text:
        monkeypatch.setattr(checking, "TIMEOUT", 2.0)
    assert text in told(folder)


SUBMITTED = sorted(
    path.parent for path in (Path(__file__).parents[1] / "leaderboard/submissions").glob("*/submission.yaml")
)


@pytest.mark.parametrize("folder", SUBMITTED, ids=lambda folder: folder.name)
def test_what_was_submitted_enters_tracks_that_there_are(folder):
    assert set(load(folder).tracks) <= set(load_benchmark().tracks)


@pytest.mark.slow
@pytest.mark.parametrize("folder", SUBMITTED, ids=lambda folder: folder.name)
def test_installed_agents_that_were_submitted_can_be_made(folder):
    submission = load(folder)
    for track in submission.tracks:
        entry_point, configuration = submission.on(track)
        if ":" not in entry_point:
            make_agent(entry_point, **configuration)
