"""The documentation runs: its Python is executed, its commands exist, its generated pages are current."""

import re
import shlex
import shutil
import sys
import warnings
from functools import cache
from pathlib import Path

import pytest
import typer

import hare_gym
from hare_evaluation import definitions, docs, statistics
from hare_evaluation.claims import CLAIMS
from hare_evaluation.cli import _add_plugins, app
from hare_evaluation.definitions import Metric
from hare_evaluation.judging import Claim
from hare_evaluation.runner import CURVES, run
from hare_evaluation.spec import RunSpec
from hare_gym.envs.prompts import HarePrompts
from hare_gym.errors import ConfigError

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
SHELLS = ("shell", "bash", "sh", "console")

BLOCK = re.compile(
    r"(?:^<!-- not run: (?P<why>[^\n]*) -->\n)?^```(?P<language>\w*)\n(?P<code>.*?)^```$", re.DOTALL | re.MULTILINE
)
WHY = (
    "installs packages", "needs a network", "needs a cluster", "needs a GPU", "needs an Anthropic key",
    "needs the season's secret", "serves until it is stopped", "takes minutes", "takes hours",
)  # fmt: skip

# what a page's commands find in their folder: a block of a page, known by its words, or a copied folder
FILES = {
    "README.md": {"my_module.py": ("README.md", "class Uniform")},
    "docs/write_an_agent.md": {"my_module.py": ("docs/write_an_agent.md", "class MyAgent")},
    "docs/tuning.md": {"my_module.py": ("docs/write_an_agent.md", "class MyAgent")},
    "docs/adaptive_prompts.md": {"config.yaml": ("docs/adaptive_prompts.md", "slate_size: 3")},
    "docs/skills.md": {"my-skills": ROOT / "hare_gym/text/corpus/skills/data"},
}
SMALLER = {
    "run ": "--seeds 1 --horizon 50 --jobs 1 --no-report",
    "tune ": "--trials 1 --seeds 1 --horizon 50 --jobs 1",
    "lamp generate ": "--train 8 --dev 4 --test 2",
    "lamp predict ": "--learn 4",
}

_add_plugins()

# the tutorials' code needs the files and commands between it: tests/test_tutorials.py runs whole pages
STANDALONE = [page for page in PAGES if page.parent.name != "tutorials"]

every_page = pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])


def blocks(page, *languages):
    found = re.findall(r"^```(\w*)\n(.*?)^```$", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    return [code for language, code in found if language in languages]


@every_page
def test_every_block_says_what_it_is(page):
    languages = re.findall(r"^```(\w*)\n.*?^```$", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    assert set(languages) <= {"python", "shell", "text", "toml", "yaml", "json"}


def page_files(page, folder):
    """Puts into a folder what the page tells to save there, or takes for granted."""
    for name, source in FILES.get(str(page.relative_to(ROOT)), {}).items():
        if isinstance(source, Path):
            shutil.copytree(source, folder / name)
        else:
            home, words = source
            (folder / name).write_text(next(code for code in blocks(ROOT / home, "python", "yaml") if words in code))


def smaller(words):
    """A `hare` command of the same kind that takes seconds: of an option that is given twice the last one counts."""
    for head, options in SMALLER.items():
        if " ".join(words).startswith(head):
            return [*words, *options.split()]
    return words


def run_blocks(page, hare):
    """Executes the Python of a page and its shell commands in their order; raises what goes wrong, and what to do."""
    namespace = {"__name__": "page"}
    for block in BLOCK.finditer(page.read_text(encoding="utf-8")):
        if block["why"]:
            continue
        if block["language"] == "python":
            with warnings.catch_warnings():
                warnings.simplefilter("error", DeprecationWarning)
                exec(compile(block["code"], page.name, "exec"), namespace)
        elif block["language"] in SHELLS:
            for program, *words in shell_commands(block["code"]):
                done = f"{program} is not run by the tests" if program != "hare" else ""
                if not done:
                    status, out, err = hare(*smaller(words))
                    done = f"it ended with status {status}: {out[-500:]}{err[-500:]}" if status else ""
                assert not done, (
                    f"{page.name}: {' '.join([program, *words])}: {done}\nMend the page; or, if it cannot run in a "
                    f"test, write directly above its block <!-- not run: WHY -->, WHY being one of: {'; '.join(WHY)}"
                )


@pytest.mark.parametrize("page", STANDALONE, ids=[str(page.relative_to(ROOT)) for page in STANDALONE])
def test_its_blocks_run(page, tmp_path, monkeypatch, in_process):
    page_files(page, tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "my_module", raising=False)  # of another page
    run_blocks(page, in_process)


@pytest.mark.parametrize(
    ("command", "complaint"),
    [
        ("hare run quik", "hare run quik: it ended with status 2: error: Unknown suite 'quik'"),
        ("hare list suites && pip install .", "pip install .: pip is not run by the tests"),
    ],
)
def test_a_command_that_fails_is_found_unless_it_is_marked(command, complaint, tmp_path, in_process):
    page = tmp_path / "page.md"
    page.write_text(f"```shell\n{command}\n```\n")
    with pytest.raises(AssertionError, match=r"write directly above its block <!-- not run: WHY -->") as found:
        run_blocks(page, in_process)
    assert complaint in str(found.value)
    page.write_text(f"<!-- not run: takes hours -->\n```shell\n{command}\n```\n")
    run_blocks(page, in_process)


@every_page
def test_a_block_that_is_not_run_says_why(page):
    text = page.read_text(encoding="utf-8")
    marked = [block for block in BLOCK.finditer(text) if block["why"]]
    assert len(marked) == text.count("<!-- not run:"), "a mark belongs directly above its block"
    assert {block["why"] for block in marked} <= set(WHY)
    assert {block["language"] for block in marked} <= {"shell"}


def shell_commands(code):
    """The commands of a shell block, each as its words, without the variables that are set for it."""
    for line in code.replace("\\\n", " ").splitlines():
        for part in re.split(r"&&|\||;", re.sub(r"(^|\s)#.*", "", line)):
            words = shlex.split(part)
            while words and re.fullmatch(r"[A-Z_]+=\S*", words[0]):
                words.pop(0)
            if words:
                yield words


def commands(page):
    """Each ``hare`` command of a page, in shell blocks and in running text."""
    text = page.read_text(encoding="utf-8")
    without_blocks = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
    for code in (*blocks(page, *SHELLS), *re.findall(r"`(hare [^`]+)`", without_blocks)):
        for name, *words in shell_commands(code):
            if name == "hare":
                yield words


@cache
def program():
    """Everything that `hare` understands; building it takes longer than parsing a command by it."""
    return typer.main.get_command(app)


def parse(words):
    """Parses a command as the program would, without running it; raises what it would raise."""
    command = program()
    context, name = None, "hare"
    while hasattr(command, "commands") and words:
        context = command.make_context(name, [words[0], "--help"], parent=context, resilient_parsing=True)
        name, words = words[0], words[1:]
        assert name in command.commands, f"there is no command {name!r}"
        command = command.commands[name]
    if not (hasattr(command, "commands") and not words):
        command.make_context(name, list(words), parent=context)


@every_page
def test_its_commands_exist(page):
    for words in commands(page):
        parse(words)


@pytest.mark.parametrize(
    "line", ["runn quick", "run --sedes 3", "run --seeds none", "check agents linucb", "list all"]
)
def test_a_wrong_command_would_be_found(line):
    with pytest.raises(Exception, match=r"no command|No such option|valid integer"):
        parse(line.split())


def test_there_are_commands_to_find():
    assert ["run", "quick"] in list(commands(ROOT / "README.md"))
    assert sum(len(list(commands(page))) for page in PAGES) > 15


@every_page
def test_its_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if target.startswith(("https://", "http://")):
            continue
        path, _, anchor = target.partition("#")
        linked = page.parent / path if path else page
        assert linked.exists(), target
        if anchor:
            heads = re.findall(r"^#+ (.*)$", linked.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in [re.sub(r"[^\w -]", "", head).strip().lower().replace(" ", "-") for head in heads]


def test_the_generated_pages_are_current():
    stale = [
        name
        for name, text in docs.pages().items()
        if not (ROOT / "docs" / name).exists() or (ROOT / "docs" / name).read_text(encoding="utf-8") != text
    ]
    assert not stale, "run: python -m hare_evaluation.docs"
    generated = {ROOT / "docs" / name for name in docs.pages()}
    assert set((ROOT / "docs/environments").glob("*.md")) <= generated


def test_every_environment_has_its_sections_and_every_knob_its_meaning():
    for name, text in docs.pages().items():
        if name.startswith("environments/"):
            for section in ("Action space", "Observation space", "Reward", "Oracle", "Version history", "All knobs"):
                assert f"\n## {section}\n" in text, (name, section)
        for row in re.findall(r"^\| `\w+` \|.*$", text, re.MULTILINE):
            assert row.replace("\\|", "").split("|")[-2].strip(), (name, row)


def test_every_shipped_agent_is_on_its_page():
    page = docs.pages()["agents.md"]
    assert re.findall(r"^## (.*)$", page, re.MULTILINE) == hare_gym.agent_names()


def test_every_number_that_a_run_claim_or_report_can_name_is_on_its_page(tmp_path):
    page = docs.pages()["metrics.md"]
    log = tmp_path / "log.csv"
    log.write_text("x,action,reward,propensity\n" + "1.0,0,1,0.5\n0.0,1,0,0.5\n" * 40)
    record, _ = run(RunSpec("HareReplay-v0", "random", "quick", 0, {"path": str(log), "context": ["x"]}))
    assert record["estimates"].keys() == definitions.ESTIMATES.keys()
    for name in (*CURVES, *record["estimates"], *definitions.TEXTS):
        assert f"| `{name}` | " in page
    for name in (*CLAIMS, "ratio_of_means", "log_log_slope"):
        assert f"\n### {name}\n" in page


class _Undescribed(Claim):
    """Something.

    **Measured.** A number.
    """

    share: float


@pytest.mark.parametrize(
    ("where", "name", "what", "complaint"),
    [
        (docs, "QUANTITIES", ("luck",), r"'luck' is not described: give it unit, .* in RUN of .*definitions\.py"),
        (
            definitions,
            "TEXTS",
            {"wit": Metric("jokes", "from 0", "higher", " ")},
            r"'wit' is not described: give it unit, range, better and note in TEXTS of .*definitions\.py",
        ),
        (
            docs,
            "CLAIMS",
            {"luck": Claim},
            r"'luck' is not described: say in the docstring of Claim, after",
        ),
        (
            docs,
            "CLAIMS",
            {"luck": _Undescribed},
            r"_Undescribed\.share is not described: say .* Attributes",
        ),
        (HarePrompts, "measures", ("luck",), r"'luck' of HarePrompts-v0 is not described: say in the docstring of"),
    ],
)
def test_a_number_without_a_description_is_refused(where, name, what, complaint, monkeypatch):
    monkeypatch.setattr(where, name, what)
    with pytest.raises(ConfigError, match=complaint + r".*hare_evaluation\.docs"):
        docs.metrics_page()


def test_a_statistic_without_a_description_is_refused(monkeypatch):
    def luck(values):
        """How lucky a seed was."""

    luck.__module__ = statistics.__name__
    monkeypatch.setattr(statistics, "luck", luck, raising=False)
    with pytest.raises(ConfigError, match=r"'luck' is not described: give its docstring .* Returns with unit"):
        docs.metrics_page()


def test_the_generator_writes_only_what_changed(tmp_path):
    assert len(docs.write_pages(tmp_path)) == len(docs.pages())
    assert docs.write_pages(tmp_path) == []
    (tmp_path / "agents.md").write_text("old")
    assert docs.write_pages(tmp_path) == [tmp_path / "agents.md"]


def test_attributes_are_read_from_a_docstring():
    docstring = """A thing.

    Attributes:
        one: First, with ``code`` and a | in it,
            on two lines.
        two: Second.

    Raises:
        three: Not an attribute.
    """
    assert docs.attributes(docstring) == {
        "one": "First, with `code` and a \\| in it, on two lines.",
        "two": "Second.",
    }


def test_the_agent_of_the_page_is_short():
    code = blocks(ROOT / "docs/write_an_agent.md", "python")[0]
    assert len([line for line in code.splitlines() if line.strip()]) <= 30
