"""``hare lamp``: files are written, questions answered in LaMP's format, answers evaluated."""

import json

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from hare_evaluation.lamp_cli import app, observation_of, predict
from hare_gym.contract import Agent, observation_space
from hare_gym.errors import ConfigError, DataError
from hare_gym.lamp.data import load
from hare_gym.lamp.features import Features
from hare_gym.registry import make_agent


def hare(*words):
    result = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("lamp")
    hare("generate", "--out", out, "--task", 3, "--task", 4, "--train", 40, "--dev", 12, "--test", 5)
    return out


def test_five_files_a_task_are_written(folder):
    assert sorted(path.name for path in (folder / "LaMP_3").iterdir()) == [
        "dev_outputs.json",
        "dev_questions.json",
        "test_questions.json",
        "train_outputs.json",
        "train_questions.json",
    ]
    assert not (folder / "LaMP_1").exists()


@pytest.mark.parametrize(("number", "figures"), [(3, ["MAE", "RMSE"]), (4, ["rouge-1", "rouge-L"])])
def test_predict_and_evaluate(folder, tmp_path, number, figures):
    data, out = folder / f"LaMP_{number}", tmp_path / "predictions.json"
    told = hare("predict", "--data", data, "--task", number, "--out", out, "--agent", "bm25", "--agent-arg", "k=2")
    assert f"12 answers to LaMP_{number}, dev" in told
    written = json.loads(out.read_text())
    questions = json.loads((data / "dev_questions.json").read_text())
    assert written["task"] == f"LaMP_{number}"
    assert [each["id"] for each in written["golds"]] == [each["id"] for each in questions]
    shown = hare("evaluate", data / "dev_outputs.json", out, "--task", number)
    assert [line.split()[0] for line in shown.splitlines()] == figures


def test_perfect_predictions_have_perfect_figures(folder):
    golds = folder / "LaMP_3" / "dev_outputs.json"
    assert hare("evaluate", golds, golds, "--task", 3).split() == ["MAE", "0.000000", "RMSE", "0.000000"]


def test_the_test_part_has_no_answers_and_is_predicted_all_the_same(folder, tmp_path):
    out = tmp_path / "test.json"
    hare("predict", "--data", folder / "LaMP_4", "--task", 4, "--split", "test", "--out", out, "--limit", 3)
    assert len(json.loads(out.read_text())["golds"]) == 3


def test_learning_on_the_train_part_changes_the_answers(folder):
    asked, taught = load(folder / "LaMP_4", 4, "dev"), load(folder / "LaMP_4", 4, "train", limit=30)

    def answers(train):
        agent = make_agent("answerer", agent="linucb", agent_kwargs={"alpha": 0.05}, rehearsed=0)
        return predict(agent, asked, train, np.random.default_rng(0))

    assert answers(taught) != answers(None)
    assert answers(taught) == answers(taught)


def test_an_observation_is_of_the_environment_s_space(folder):
    class Looks(Agent):
        modes = frozenset({"write"})

        def act(self, observation):
            found = {**observation, "user": np.int64(observation["user"])}
            assert observation_space(self.spec).contains(found)
            return "3"

    data = load(folder / "LaMP_3", 3, "dev", limit=3)
    assert set(predict(Looks(), data, None, np.random.default_rng(0)).values()) == {"3"}


def test_an_empty_profile_is_observed_as_no_items(folder):
    features = Features(load(folder / "LaMP_4", 4, "dev").task)
    question = load(folder / "LaMP_4", 4, "dev").questions[0]
    bare = observation_of(features, type(question)(question.id, question.input), 0, 4)
    assert bare["pool_text"] == "" and not bare["pool_mask"].any()
    assert make_agent("bm25").modes == {"write"}


def test_what_cannot_be_done_is_said(folder):
    dev, other = load(folder / "LaMP_3", 3, "dev"), load(folder / "LaMP_4", 4, "train")
    with pytest.raises(
        ConfigError, match=r"^JointLinUCB does not write. Let it choose among answers: --agent answerer"
    ):
        predict(make_agent("linucb"), dev, None, np.random.default_rng(0))
    with pytest.raises(
        DataError, match=r"^The train part is of news headline, but the questions are of product rating"
    ):
        predict(make_agent("bm25"), dev, other, np.random.default_rng(0))
    unanswered = load(folder / "LaMP_3", 3, "test")
    with pytest.raises(DataError, match=r"of the train part has no answer: train_outputs.json is missing"):
        predict(make_agent("bm25"), dev, unanswered, np.random.default_rng(0))


def test_its_commands_are_documented():
    group = typer.main.get_command(app)
    assert set(group.commands) == {"generate", "predict", "evaluate"}
    assert all(command.help for command in group.commands.values())
