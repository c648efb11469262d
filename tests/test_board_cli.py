import pytest
from _board import run_set
from _browser import CHROMIUM, missing
from typer.testing import CliRunner

from hare_evaluation.foundation import HareError
from hare_leaderboard.cli import app
from hare_leaderboard.results import ResultStore

BENCHMARK = """
version: small
limits: {act_seconds: 5}
tracks:
  bilinear-select:
    title: Select
    description: Which item to show.
    environments:
      - label: small
        id: HareBilinear-v0
        kwargs: {horizon: 60, num_items: 12, num_clusters: 4, num_users: 5}
        hidden_seeds: 2
        public_seeds: 1
"""


@pytest.fixture
def hare(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.yaml").write_text(BENCHMARK)

    def call(*words):
        return CliRunner().invoke(app, [*words], catch_exceptions=False)

    return call


def test_a_newcomer_makes_checks_and_mends(hare, tmp_path):
    made = hare("new", "my-agent", "--benchmark", "small.yaml")
    assert made.exit_code == 0
    assert made.stdout.endswith("hare leaderboard check leaderboard/submissions/my-agent\n")
    folder = "leaderboard/submissions/my-agent"
    checked = hare("check", folder, "--benchmark", "small.yaml")
    assert checked.exit_code == 0 and checked.stdout.endswith(f"{folder} can be submitted.\n")
    path = tmp_path / folder / "submission.yaml"
    path.write_text(path.read_text().replace("Apache-2.0 ", "Apache 2 "))
    checked = hare("check", folder, "--benchmark", "small.yaml")
    assert checked.exit_code == 1 and "Did you mean 'Apache-2.0'?" in checked.stderr


def test_tracks_are_listed(hare):
    assert hare("tracks", "--benchmark", "small.yaml").stdout.split() == [
        "bilinear-select",
        "Select",
        "(HareBilinear-v0)",
    ]
    assert "skills-write" in hare("tracks").stdout


def test_the_site_is_built_from_a_folder_and_flaws_are_told(hare, tmp_path):
    store = ResultStore(tmp_path / "leaderboard/results")
    good, bad = store.add(run_set("linucb")), store.add(run_set("lints"))
    assert "2 results match their hashes; 0 were removed" in hare("verify").stdout
    bad.write_bytes(bad.read_bytes().replace(b'"seed":3', b'"seed":4', 1))
    built = hare("build", "--benchmark", "small.yaml")
    assert built.exit_code == 0 and "was edited" in built.stderr
    page = (tmp_path / "leaderboard/site/index.html").read_text()
    assert "linucb" in page and "lints" not in page and "could not be trusted" in page
    verified = hare("verify")
    assert verified.exit_code == 1 and "was edited" in verified.stderr
    digest = store.load().results[0].sha256
    with pytest.raises(HareError, match="No result in leaderboard/results has the hash"):
        hare("remove", "0" * 64, "--reason", "x")
    assert hare("remove", digest[:12], "--reason", "It read the seeds.").exit_code == 0
    assert not store.load().results and good.exists()


def test_a_picture_of_the_board_is_taken(hare, tmp_path):
    if CHROMIUM is None:
        missing("No Chromium to take a picture with. Install it, for instance with: apt-get install chromium")
    ResultStore(tmp_path / "leaderboard/results").add(run_set("linucb"))
    assert hare("build", "--benchmark", "small.yaml", "--picture", "board.png").exit_code == 0
    assert (tmp_path / "board.png").read_bytes().startswith(b"\x89PNG")


def test_without_chromium_the_picture_says_what_to_install(hare, monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(HareError, match="A picture needs Chromium"):
        hare("build", "--benchmark", "small.yaml", "--picture", "board.png")
