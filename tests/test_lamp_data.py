"""LaMP's and LongLaMP's files: the published layouts, what is wrong with a file, predictions, and bounded memory."""

import json
import tracemalloc

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hare_gym.errors import ConfigError, DataError, UnknownNameError
from hare_gym.lamp import data, parquet, streaming
from hare_gym.lamp.data import load, read_outputs, write_outputs, write_questions
from hare_gym.lamp.tasks import LONG_TASKS, OLD_TASK_2, TASKS, ProfileItem, Question, query_of, references_of

# One question a task, as the published files have it.
ITEMS = {
    1: {"id": "p1", "title": "Ranking with users", "abstract": "We rank."},
    2: {"id": "p1", "tag": "comedy", "description": "A man slips."},
    3: {"id": "p1", "text": "Broke at once.", "score": "1"},
    4: {"id": "p1", "text": "The council met.", "title": "Council Meets"},
    5: {"id": "p1", "title": "Ranking with users", "abstract": "We rank."},
    6: {"id": "p1", "text": "Please find attached.", "title": "Minutes"},
    7: {"id": "p1", "text": "so tired of mondays"},
}
INPUTS = {
    1: 'For an author who has written the paper with the title "Deep sets", which reference is related? Just answer '
    'with [1] or [2] without explanation. [1]: "Set functions" [2]: "Cooking eggs"',
    2: "Which tag does this movie relate to among the following tags? Just answer with the tag name without further "
    "explanation. tags: [sci-fi, comedy] description: A ship is lost.",
    3: "What is the score of the following review on a scale of 1 to 5? just answer with 1, 2, 3, 4, or 5 without "
    "further explanation. review: Works well.",
    4: "Generate a headline for the following article: Rain fell.",
    5: "Generate a title for the following abstract of a paper: We study rain.",
    6: "Generate a subject for the following email: See you at nine.",
    7: "Paraphrase the following tweet without any explanation before or after it: I am happy.",
}
OUTPUTS = {1: "[1]", 2: "sci-fi", 3: "5", 4: "It Rains", 5: "On Rain", 6: "Nine o'clock", 7: "so happy"}
QUERIES = {
    1: "Set functions Cooking eggs",
    2: "A ship is lost.",
    3: "Works well.",
    4: "Rain fell.",
    5: "We study rain.",
    6: "See you at nine.",
    7: "I am happy.",
}


def question(number, id="310", **more):
    return {"id": id, "input": INPUTS[number], "profile": [dict(ITEMS[number])], **more}


def save(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def save_split(folder, number, questions, outputs=None, split="dev"):
    """The questions file, and unless `outputs` is None the outputs file, of a task."""
    save(folder / f"{split}_questions.json", questions)
    if outputs is not None:
        golds = [{"id": id, "output": output} for id, output in outputs.items()]
        save(folder / f"{split}_outputs.json", {"task": f"LaMP_{number}", "golds": golds})
    return folder


@pytest.fixture
def folder(tmp_path):
    return save_split(tmp_path / "three", 3, [question(3, "a"), question(3, "b")], {"a": "5", "b": "2"})


@pytest.mark.parametrize("number", TASKS)
def test_every_task_is_read_as_it_is_published(tmp_path, number):
    save_split(tmp_path, number, [question(number)], {"310": OUTPUTS[number]})
    opened = load(tmp_path, number)
    assert (opened.task, opened.split, opened.timed) == (TASKS[number], "dev", False)
    fields = {name: ITEMS[number][name] for name in TASKS[number].fields}
    assert list(opened.questions) == [
        Question("310", INPUTS[number], (ProfileItem("p1", fields),), "310", OUTPUTS[number])
    ]
    assert query_of(opened.task, opened.questions[0].input) == QUERIES[number]
    assert opened.golds == {"310": OUTPUTS[number]}


def test_the_references_of_a_citation():
    assert references_of(INPUTS[1]) == ("Set functions", "Cooking eggs")


def test_the_split_by_time_names_users_and_dates(tmp_path):
    dated = [
        question(3, str(k), user_id=user, profile=[{**ITEMS[3], "date": date}])
        for k, (user, date) in enumerate([(7, "2014-05-03"), (9, 2015), (7, "2016")])
    ]
    save_split(tmp_path, 3, dated, {"0": "1", "1": "2", "2": "3"}, "train")
    opened = load(tmp_path, 3, "train")
    assert opened.timed
    assert opened.users == ("7", "9")
    assert opened.asked == {"7": (0, 2), "9": (1,)}
    assert [q.profile[0].date for q in opened.questions] == ["2014-05-03", "2015", "2016"]
    assert [q.user for q in opened.questions] == list(opened.owners) == ["7", "9", "7"]


def test_the_split_by_user_has_a_user_a_question(folder):
    opened = load(folder, 3)
    assert opened.users == opened.ids == ("a", "b")
    assert opened.questions[0].profile[0].date is None


def test_both_kinds_of_task_2_are_told_apart(tmp_path):
    item = {"id": "p", "text": "A game.", "title": "Win", "category": "sports"}
    old = {"id": "1", "input": "Which category does this article relate to? article: A match.", "profile": [item]}
    site = tmp_path / "site"
    save_split(site / "LaMP_2/dev", 2, [old], {"1": "travel"})
    opened = load(site, 2)
    assert opened.task == OLD_TASK_2
    assert opened.questions[0].profile[0].fields == {"text": "A game.", "title": "Win", "category": "sports"}
    assert query_of(opened.task, old["input"]) == "A match."
    save_split(site / "LaMP_2/new/dev", 2, [question(2)], {"310": "comedy"})
    assert load(site, 2).task == TASKS[2]
    assert load(site / "LaMP_2", 2).task == TASKS[2]
    assert load(site, OLD_TASK_2).ids == ("1",)


@pytest.mark.parametrize("place", ["", "dev", "LaMP_3", "LaMP_3/dev"])
def test_where_the_files_may_lie(tmp_path, place):
    save_split(tmp_path / place, 3, [question(3)], {"310": "5"})
    assert load(tmp_path, 3).ids == ("310",)


def test_task_6_without_texts(tmp_path):
    bare = {"id": "1", "input": "114-000001-EM", "profile": [{"id": "2", "text": "114-000002-EM"}]}
    save(tmp_path / "dev_questions.json", [bare])
    save_split(tmp_path, 6, [bare], {"1": "x"})
    with pytest.raises(DataError, match=r"ids of e-mails in place of.*LDC2015T03.*create_avocado_dataset"):
        load(tmp_path, 6)
    (tmp_path / "dev_outputs.json").unlink()
    opened = load(tmp_path, 6, ids_only=True)
    assert opened.questions[0] == Question("1", "114-000001-EM", (ProfileItem("2", {"text": "114-000002-EM"}),), "1")


def test_the_test_part_has_no_outputs_and_may_be_wrapped(tmp_path):
    save(tmp_path / "test_questions.json", {"task": "LaMP_6", "golds": [question(6, "1"), question(6, "2")]})
    opened = load(tmp_path, 6, "test")
    assert [q.id for q in opened.questions] == ["1", "2"]
    assert opened.outputs == (None, None)
    assert opened.golds == {}


def test_an_empty_profile_is_kept(tmp_path):
    save_split(tmp_path, 4, [question(4, "1", profile=[]), question(4, "2")], {"1": "x", "2": "y"})
    assert [len(q.profile) for q in load(tmp_path, 4).questions] == [0, 1]


def test_looking_up_questions(folder):
    questions = load(folder, 3).questions
    assert len(questions) == 2
    assert questions[-1].id == "b"
    assert [q.id for q in questions[:1]] == ["a"]
    assert [q.output for q in questions] == ["5", "2"]
    with pytest.raises(IndexError):
        questions[2]


def test_a_limit(folder):
    assert load(folder, 3, limit=1).ids == ("a",)
    assert load(folder, 3, limit=9).ids == ("a", "b")
    with pytest.raises(ConfigError, match="limit must be at least 1, not 0"):
        load(folder, 3, limit=0)


def test_a_limit_does_not_excuse_a_missing_answer(tmp_path):
    save_split(tmp_path, 3, [question(3, "a"), question(3, "b")], {"b": "2"})
    with pytest.raises(DataError, match="1 questions without an output: a"):
        load(tmp_path, 3, limit=1)


# LongLaMP


def test_longlamp_as_its_script_writes_it(tmp_path):
    items = [{"id": "p", "text": "Dear all, hello.", "title": "Hello"}]
    save(tmp_path / "dev_questions.json", [{"id": "1", "input": "Complete the text: Dear", "profile": items}])
    save(tmp_path / "dev_outputs.json", [{"id": "1", "output": "all of you"}])
    opened = load(tmp_path, "email")
    assert opened.task == LONG_TASKS["email"]
    assert opened.questions[0].output == "all of you"
    assert query_of(opened.task, opened.questions[0].input) == "Dear"


LONG_ROWS = {
    "abstract": ("name", {"title": "On rain", "abstract": "Rain falls."}, "items: rain, falls", "rain, falls"),
    "review": (
        "reviewerId",
        {"overall": 5.0, "summary": "Good", "description": "A lamp", "reviewText": "It is bright."},
        "Write a review: a lamp",
        "Write a review: a lamp",
    ),
    "topic": ("author", {"summary": "Rain", "content": "It rained."}, "Write on: rain", "Write on: rain"),
}


@pytest.mark.parametrize("name", LONG_ROWS)
@pytest.mark.parametrize("file", ["val.json", "val.jsonl", "dev.json"])
def test_longlamp_as_its_tables_are_saved(tmp_path, name, file):
    user, item, input, query = LONG_ROWS[name]
    rows = [{user: "ann", "input": input, "output": f"long text {k}", "profile": [item] * k} for k in range(3)]
    lines = file.endswith("l")
    save(tmp_path / file, "\n".join(map(json.dumps, rows)) + "\n" if lines else rows)
    opened = load(tmp_path, name)
    assert opened.task.id == f"LongLaMP_{name}"
    assert (opened.ids, opened.users) == (("0", "1", "2"), ("ann",))
    last = opened.questions[2]
    assert [i.id for i in last.profile] == ["0", "1"]
    assert last.profile[0].fields == {field: str(value) for field, value in item.items()}
    assert (last.output, query_of(opened.task, last.input)) == ("long text 2", query)
    with pytest.raises(DataError, match="has no train_questions"):
        load(tmp_path, name, "train")


def test_a_topic_under_the_names_of_the_scripts(tmp_path):
    profile = [{"input": "Rain", "output": "It rained."}]
    save(tmp_path / "train.json", [{"author": "ann", "input": "Write", "output": "Text", "profile": profile}])
    item = load(tmp_path, "topic", "train").questions[0].profile[0]
    assert item.fields == {"summary": "Rain", "content": "It rained."}


@pytest.mark.parametrize("parts", [1, 2])
def test_longlamp_in_parquet(tmp_path, monkeypatch, parts):
    monkeypatch.setattr(parquet, "cache_folder", lambda: tmp_path / "cache")
    folder = tmp_path / "product_review_user"
    folder.mkdir()
    rows = [
        {
            "reviewerId": f"user {k}",
            "input": f"Write a review of thing {k}.",
            "output": f"It is {k}.",
            "profile": [
                {"overall": "4", "summary": "Fine", "description": f"Thing {k}", "reviewText": "Gut für mich."}
            ],
        }
        for k in range(5)
    ]
    for part in range(parts):
        table = pa.Table.from_pylist(rows[part::parts])
        pq.write_table(table, folder / f"val-{part:05d}-of-{parts:05d}.parquet", row_group_size=2)
    opened = load(folder, "review", "dev")
    assert sorted(opened.owners) == [f"user {k}" for k in range(5)]
    last = opened.questions[len(opened) - 1]
    row = rows[4 if parts == 1 else 3]
    assert (last.input, last.output, last.user) == (row["input"], row["output"], row["reviewerId"])
    assert last.profile[0].fields == row["profile"][0]
    assert load(folder, "review", "dev") is opened
    (lines,) = (tmp_path / "cache" / "longlamp").iterdir()
    assert lines.suffix == ".jsonl"
    with pytest.raises(DataError, match="has no train_questions"):
        load(folder, "review", "train")


def test_what_is_no_parquet(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet, "cache_folder", lambda: tmp_path / "cache")
    save(tmp_path / "val-00000-of-00001.parquet", "PAR1")
    with pytest.raises(DataError, match=r"val-00000-of-00001\.parquet is no Parquet table that can be read: .*again"):
        load(tmp_path, "review")
    assert not [*(tmp_path / "cache").rglob("*.*")]


def test_files_are_opened_anew_only_if_they_have_changed(folder):
    opened = load(folder, 3)
    assert load(folder, 3) is opened
    save_split(folder, 3, [question(3, "a")], {"a": "1"})
    assert load(folder, 3).golds == {"a": "1"}


# What is wrong


def test_a_missing_file_is_named_with_where_to_get_it_and_its_licence(tmp_path):
    with pytest.raises(DataError) as caught:
        load(tmp_path, 3)
    for part in (
        f"{tmp_path} has no dev_questions.json of LaMP_3",
        "https://lamp-benchmark.github.io/download",
        "/LaMP/LaMP_3/dev/",
        "/LaMP/time/LaMP_3/dev/",
        "CC BY-NC-SA 4.0",
    ):
        assert part in str(caught.value)
    with pytest.raises(DataError, match=r"/LaMP/LaMP_2/new/train/"):
        load(tmp_path, 2, "train")
    with pytest.raises(DataError, match=r"no test_questions.json of LaMP_6.*LDC2015T03.*CC BY-NC-SA"):
        load(tmp_path, 6, "test")
    with pytest.raises(DataError, match=r"There is no folder .*nowhere.* Get the files from"):
        load(tmp_path / "nowhere", 3)
    with pytest.raises(DataError, match=r"huggingface\.co/datasets/LongLaMP"):
        load(tmp_path, "topic")


def test_missing_outputs(folder):
    (folder / "dev_outputs.json").unlink()
    with pytest.raises(DataError, match=r"has dev_questions.json and no dev_outputs.json.*CC BY-NC-SA"):
        load(folder, 3)


def test_unknown_tasks_and_splits(folder):
    with pytest.raises(UnknownNameError, match="Unknown LaMP task '8'"):
        load(folder, 8)
    with pytest.raises(UnknownNameError, match=r"Unknown LaMP task 'topics'\. Did you mean 'topic'"):
        load(folder, "topics")
    with pytest.raises(UnknownNameError, match="Unknown LaMP split 'val'"):
        load(folder, 3, "val")
    assert load(folder, "3").task == TASKS[3]


def test_ids_that_do_not_match(tmp_path):
    outputs = {"b": "1", "x": "1", "y": "1", "z": "1", "w": "1"}
    save_split(tmp_path, 3, [question(3, "a"), question(3, "b")], outputs)
    with pytest.raises(DataError) as caught:
        load(tmp_path, 3)
    assert str(caught.value).endswith(
        "do not belong together: 1 questions without an output: a; 4 outputs without a question: x, y, z, .... "
        "Download both again, of the same task, split and part."
    )


@pytest.mark.parametrize(
    ("number", "questions", "outputs", "message"),
    [
        (3, [question(3), question(3)], {"310": "1"}, "has two questions 310"),
        (3, [question(3)], {"310": "6"}, "output '6' of question 310 is none of its labels: 1, 2, 3, 4, 5"),
        (3, [question(3)], {"310": "five"}, "output 'five' of question 310 is none of its labels"),
        (2, [question(2)], {"310": "Comedy"}, "output 'Comedy' of question 310 is none .* two kinds"),
        (3, [{"id": "1", "profile": []}], {"1": "1"}, "'input' of question 1 of LaMP_3 is missing"),
        (3, [{"id": "1", "input": "x"}], {"1": "1"}, "'profile' of question 1 of LaMP_3 is missing"),
        (3, [{"id": "1", "input": 3, "profile": []}], {"1": "1"}, "'input' of question 1 .* must be a text, not 3"),
        (3, [{"id": "1", "input": "x", "profile": {}}], {"1": "1"}, "'profile' .* must be a list, not {}"),
        (3, [{"input": "x", "profile": []}], {"1": "1"}, "'id' of question 1 of LaMP_3 is missing"),
        (3, [["x"]], {"1": "1"}, "question 1 must be an object, not list"),
        (3, [[question(3)]], {"1": "1"}, "question 1 must be an object, not list"),
        (3, [question(3, profile=["x"])], {"310": "1"}, "profile item 1 of question 310 has no text 'text'"),
        (
            3,
            [question(5)],
            {"310": "1"},
            "profile item 1 of question 310 has no text 'text'; those of LaMP_3 have text, score",
        ),
        (3, [question(3, profile=[{"text": "x", "score": "good"}])], {"310": "1"}, "score 'good' is no rating"),
        (3, [question(3, profile=[{"text": "x", "score": "0"}])], {"310": "1"}, "score '0' is no rating; .* 1, 2, 3"),
        (3, [], {"1": "1"}, "holds no question. Download it again"),
    ],
)
def test_what_is_wrong_with_questions_and_outputs(tmp_path, number, questions, outputs, message):
    save_split(tmp_path, number, questions, outputs)
    with pytest.raises(DataError, match=message):
        load(tmp_path, number)


def test_scores_in_a_profile_may_be_numbers(tmp_path):
    items = [{"id": k, "text": None, "score": score} for k, score in enumerate([4, 4.0, "4.0"])]
    save_split(tmp_path, 3, [question(3, profile=items)], {"310": "1"})
    profile = load(tmp_path, 3).questions[0].profile
    assert [(i.id, i.fields) for i in profile] == [(str(k), {"text": "", "score": "4"}) for k in range(3)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<!DOCTYPE html><html></html>", "is a web page and no JSON"),
        ("", "is empty. Download it again"),
        (" \n", "is empty. Download it again"),
        (json.dumps([question(3)])[:-1], "breaks off in the middle, after byte"),
        (json.dumps([question(3)])[:-30], "breaks off in the middle, after byte 1"),
        ("[", "breaks off"),
        ('{"task": "LaMP_3", "golds": ', "breaks off"),
        ('{"task": "LaMP_3"}', "the object that it is has no list"),
        ('{"task": "x" "golds": []}', "at byte 13, a comma or the end of the object was expected"),
        ('{"task": 3, "golds" []}', "at byte 20, a colon was expected"),
        ('{"id" 3}', "at byte 6, expecting ':' delimiter"),
        ('"text"', "at byte 0, a list of objects was expected"),
        ("[{} {}]", "question 1 of LaMP_3 is missing"),
        ('[{"id": "1", "input": "ü", "profile": []} 3]', "at byte 43, a comma or the end of the list was expected"),
        ('[{"id": 1, , "input": "' + "x" * 50 + '"}]', "at byte 11, expecting property name"),
    ],
)
def test_files_that_are_no_proper_json(tmp_path, text, message):
    save(tmp_path / "test_questions.json", text)
    with pytest.raises(DataError, match=message):
        load(tmp_path, 3, "test")


def test_a_file_that_is_not_in_utf_8(tmp_path):
    (tmp_path / "test_questions.json").write_bytes('[{"id": "é"}]'.encode("latin-1"))
    with pytest.raises(DataError, match="is not in UTF-8"):
        load(tmp_path, 3, "test")


def test_a_file_that_changes_under_the_reader(folder):
    opened = load(folder, 3)
    path = folder / "dev_questions.json"
    path.write_text(path.read_text().replace('"a"', '"c"'))
    with pytest.raises(DataError, match=r"dev_questions\.json has changed since it was opened"):
        opened.questions[0]
    assert opened.questions[1].id == "b"
    path.unlink()
    with pytest.raises(DataError, match="has changed since it was opened"):
        opened.questions[1]


# Files of answers


def test_predictions_go_out_in_lamps_own_format_and_come_back(tmp_path):
    outputs = {"1": "[1]", "2": "née"}
    path = write_outputs(tmp_path / "predictions.json", TASKS[1], outputs)
    golds = [{"id": "1", "output": "[1]"}, {"id": "2", "output": "née"}]
    assert json.loads(path.read_text()) == {"task": "LaMP_1", "golds": golds}
    assert read_outputs(path, TASKS[1]) == outputs


def test_evaluating_files(tmp_path):
    golds = write_outputs(tmp_path / "golds.json", TASKS[2], {"1": "comedy", "2": "action"})
    predictions = write_outputs(tmp_path / "predictions.json", TASKS[2], {"2": "action", "1": "romance"})
    assert data.evaluate_files(golds, predictions, 2)["accuracy"] == 0.5
    old = write_outputs(tmp_path / "old.json", OLD_TASK_2, {"1": "travel", "2": "crime"})
    told = write_outputs(tmp_path / "told.json", OLD_TASK_2, {"1": "travel", "2": "crime"})
    assert data.evaluate_files(old, told, 2) == {"accuracy": 1.0, "f1": pytest.approx(2 / 15)}
    with pytest.raises(DataError, match="predictions and golds must have the same ids"):
        data.evaluate_files(golds, write_outputs(tmp_path / "few.json", TASKS[2], {"1": "comedy"}), 2)


@pytest.mark.parametrize(
    ("content", "number", "message"),
    [
        ({"task": "LaMP_5", "golds": []}, 3, "holds answers of LaMP_5, not of LaMP_3"),
        ({"task": "LaMP-3", "golds": []}, 3, "LaMP-3, not of LaMP_3. Write it with an underscore"),
        ({"task": "LaMP_3", "golds": [{"id": "1"}]}, 3, "answer 1 has no id and output; the format is"),
        (["x"], 3, "answer 1 has no id and output"),
        ([{"id": "1", "output": "2"}] * 2, 3, "has two answers of question 1"),
        ([{"id": "1", "output": None}], 3, "the answer of question 1 must be a text, not None"),
        ([{"id": "1", "output": True}], 3, "the answer of question 1 must be a text, not True"),
        ([{"id": "1", "output": 3}], 5, "the answer of question 1 must be a text, not 3"),
    ],
)
def test_what_is_wrong_with_a_file_of_answers(tmp_path, content, number, message):
    path = save(tmp_path / "answers.json", content)
    with pytest.raises(DataError, match=message):
        read_outputs(path, TASKS[number])


def test_a_missing_file_of_answers(tmp_path):
    with pytest.raises(DataError, match=r"There is no file .*answers\.json with outputs of LaMP_3"):
        read_outputs(tmp_path / "answers.json", TASKS[3])


def test_a_number_passes_for_a_label(tmp_path):
    assert read_outputs(save(tmp_path / "a.json", [{"id": 1, "output": 4}]), TASKS[3]) == {"1": "4"}


def test_with_oddities_the_last_of_two_answers_counts_and_nothing_is_refused(tmp_path):
    answers = [{"id": "1", "output": "2"}, {"id": "1", "output": "5"}, {"id": "2", "output": None}]
    path = save(tmp_path / "answers.json", answers)
    # the published evaluator: MAE 2 for golds 3 and 5, None being no number and 1 farther from 5
    assert read_outputs(path, TASKS[3], oddities=True) == {"1": "5", "2": "None"}
    golds = save(tmp_path / "golds.json", [{"id": "1", "output": "3"}, {"id": "2", "output": "5"}])
    assert data.evaluate_files(golds, path, 3, oddities=True)["MAE"] == 3.0


@pytest.mark.parametrize("timed", [False, True])
def test_what_is_written_is_what_is_read(tmp_path, timed):
    questions = [
        Question(
            str(k),
            f"Generate a headline for the following article: Räin {k}.",
            tuple(
                ProfileItem(f"{k}-{j}", {"text": f"Text {j}", "title": "T"}, "2015-01-02" if timed else None)
                for j in range(k)
            ),
            "ann" if timed else str(k),
            f"Rain {k}",
        )
        for k in range(4)
    ]
    write_questions(tmp_path, TASKS[4], "train", questions)
    opened = load(tmp_path, 4, "train")
    assert list(opened.questions) == questions
    assert opened.timed == timed
    write_questions(tmp_path, TASKS[4], "test", questions, outputs=False)
    assert not (tmp_path / "test_outputs.json").exists()
    assert load(tmp_path, 4, "test").outputs == (None,) * 4


# Streaming

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(-1e9, 1e9) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
objects = st.lists(st.dictionaries(st.text(max_size=5), values, max_size=4), max_size=6)


@settings(max_examples=150, deadline=None)
@given(
    objects,
    st.integers(1, 40),
    st.sampled_from(["list", "wrapped", "lines"]),
    st.booleans(),
    st.sampled_from([None, 1]),
)
def test_streams_give_the_same_whatever_the_chunks(tmp_path_factory, elements, chunk, layout, escaped, indent):
    """Any chunk, even one that ends inside a letter, gives what the whole text gives, and the places of it."""
    path = tmp_path_factory.mktemp("stream") / "file.json"
    if layout == "lines":
        elements = [{"x": 0}, *elements]
        text = "\n".join(json.dumps(element, ensure_ascii=escaped) for element in elements)
    else:
        whole = elements if layout == "list" else {"task": "LaMP_6", "other": [[1]], "golds": elements}
        text = json.dumps(whole, ensure_ascii=escaped, indent=indent)
    path.write_text(text, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(streaming, "_CHUNK", chunk)
        found = list(streaming.objects_of(path))
    assert [value for _, value in found] == elements
    with path.open("rb") as file:
        assert [streaming.read_at(file, place) for place, _ in found] == elements


def test_a_large_file_does_not_stay_in_memory(tmp_path):
    """20 MB are opened and read through within 8 MB (two chunks of 4 MiB and one question are what is held)."""
    item = {"text": "word " * 40, "score": "3"}
    raw = json.dumps({"input": "review: x", "profile": [{"id": str(k), **item} for k in range(100)]})[1:]
    with (tmp_path / "test_questions.json").open("w") as file:
        file.write("[" + ", ".join(f'{{"id": "{k}", {raw}' for k in range(800)) + "]")
    size = (tmp_path / "test_questions.json").stat().st_size
    assert size > 18e6
    patch = pytest.MonkeyPatch()
    patch.setattr(streaming, "_CHUNK", 1 << 20)
    tracemalloc.start()
    try:
        opened = load(tmp_path, 3, "test")
        assert sum(len(q.profile) for q in opened.questions) == 80_000
        assert tracemalloc.get_traced_memory()[1] < 8e6
        del opened
    finally:
        tracemalloc.stop()
        patch.undo()


def test_a_bar_shows_how_far_it_is(folder, capfd):
    assert load(folder, 3, progress=True).ids == ("a", "b")
    load(folder, 3)
    assert capfd.readouterr().out == ""
