"""LaMP's published files, and LongLaMP's: questions that stay on the disk until they are asked.

Nothing of the data is shipped: its licence is CC BY-NC-SA 4.0. A task has five files, ``train_questions.json``,
``train_outputs.json``, ``dev_questions.json``, ``dev_outputs.json`` and ``test_questions.json`` (the test answers are
kept by the authors), in two splits: by user, where train, dev and test hold other users, and by time, where questions
have a ``user_id`` and profile items a ``date``.

`load` reads a file once, checks all of it, and keeps the places of the questions, their ids and their answers.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from hare_gym.errors import ConfigError, DataError, unknown_name
from hare_gym.lamp import metrics
from hare_gym.lamp.parquet import lines_of
from hare_gym.lamp.reviews import load_reviews
from hare_gym.lamp.streaming import Place, objects_of, read_at
from hare_gym.lamp.tasks import LONG_TASKS, OLD_TASK_2, TASKS, LampTask, ProfileItem, Question, task_of
from hare_gym.lamp.tasks import LampData as LampData

SPLITS = ("train", "dev", "test")
LICENCE = "CC BY-NC-SA 4.0"

_SITE = "https://lamp-benchmark.github.io/download"
_FILES = "https://ciir.cs.umass.edu/downloads/LaMP"
_LONG_SITE = "https://huggingface.co/datasets/LongLaMP/LongLaMP"
_AVOCADO = (
    "The texts are those of the Avocado collection (LDC2015T03), which is not public; whoever has it makes the files "
    "with LaMP's own script, data/avocado/create_avocado_dataset.py."
)
_LONG_SPLITS = {"train": ("train",), "dev": ("dev", "val", "validation"), "test": ("test",)}
_LONG_USERS = ("reviewerId", "name", "author")
# LongLaMP's scripts and its published tables name the fields of a topic differently.
_ALSO_CALLED = {"summary": "input", "content": "output"}


def load(
    folder: str | Path,
    task: int | str | LampTask,
    split: str = "dev",
    *,
    limit: int | None = None,
    ids_only: bool = False,
    progress: bool | None = None,
) -> LampData:
    """Opens the published files of a task.

    The files are looked for in the folder itself, in ``<split>/``, and in ``LaMP_<k>/`` (and ``LaMP_2/new/``) as the
    download site arranges them; the tree of the split by time, ``time/``, is given by its own path. Of LongLaMP, what
    its scripts write is read as well as its tables, answers included: as JSON (``val.json`` or ``val.jsonl``), or as
    the download's Parquet (``val-00000-of-00001.parquet``), which is unpacked once into the user's cache.

    An empty profile is kept as it is. A list wrapped into an object is unwrapped. Of task 2, the new files are
    preferred, and older ones known by their fields. A file of reviews, ``*.jsonl``, is read as task 3 whatever the
    split (`hare_gym.lamp.reviews.load_reviews`). Files that have not changed are opened once in a process.

    Args:
        folder: Where the files are, or a file of reviews.
        task: 1 to 7; or ``email``, ``abstract``, ``review`` or ``topic`` of LongLaMP; or a `LampTask`, for which
            `OLD_TASK_2` asks for the older files alone.
        split: ``train``, ``dev`` or ``test``.
        limit: How many questions to open at most, from the start of the file; None for all.
        ids_only: Whether to open the files of task 6 as they are published, with the ids of e-mails for texts.
        progress: Whether to show a bar; None for where it takes long and standard error is a terminal.

    Raises:
        UnknownNameError: There is no such task or split.
        ConfigError: A limit below 1, or on reviews.
        DataError: A file is missing (the message says where to get it), broken, of another task or without texts; ids
            that do not match; an answer or a rating outside its task's labels.
    """
    task = _task(task)
    if split not in SPLITS:
        raise unknown_name("LaMP split", split, SPLITS)
    if limit is not None and limit < 1:
        raise ConfigError(f"limit must be at least 1, not {limit}.")
    folder = Path(folder).absolute()  # questions are looked up later, wherever that is
    if folder.suffix == ".jsonl" and not folder.is_dir():
        if task != TASKS[3]:
            raise DataError(
                f"{folder} is a file, which is read as reviews, and those are task 3; {task.id} takes a folder."
            )
        if limit is not None:
            raise ConfigError("limit is for published files; load_reviews has max_users.")
        return _opened_reviews(folder, progress, _stamp(folder))
    path = _find(folder, task, split)
    return _opened(
        path, task, split, limit, ids_only, progress, _stamp(path, path.with_name(f"{split}_outputs.json"))
    )


@lru_cache(maxsize=8)
def _opened(
    path: Path,
    task: LampTask,
    split: str,
    limit: int | None,
    ids_only: bool,
    progress: bool | None,
    stamp: tuple[int, ...],
) -> LampData:
    golds = _golds_beside(path, task, split, ids_only)
    index = _Index(path, task, ids_only)
    for place, raw in objects_of(path, progress=progress):
        index.add(place, raw, golds)
        if len(index.ids) == limit:
            break
    if not index.ids:
        raise DataError(f"{path} holds no question. Download it again.")
    if golds is not None and (golds.keys() != index.ids.keys() if limit is None else index.ids.keys() - golds.keys()):
        raise DataError(
            f"{path.name} and {split}_outputs.json in {path.parent} do not belong together: "
            f"{metrics.differing(index.ids, golds, 'questions without an output', 'outputs without a question')} "
            "Download both again, of the same task, split and part."
        )
    return index.data(split)


@lru_cache(maxsize=2)
def _opened_reviews(path: Path, progress: bool | None, stamp: tuple[int, ...]) -> LampData:
    return load_reviews(path, progress=progress)


def _stamp(*paths: Path) -> tuple[int, ...]:
    """What changes when files do."""
    stats = [path.stat() for path in paths if path.is_file()]
    return tuple(part for stat in stats for part in (stat.st_mtime_ns, stat.st_size, stat.st_ino))


def read_outputs(path: str | Path, task: LampTask, *, oddities: bool = False) -> dict[str, str]:
    """Answers by the ids of their questions, from a file of golds or of predictions: both have one format.

    Args:
        path: ``{"task": "LaMP_3", "golds": [{"id": ..., "output": ...}, ...]}``, or the list alone.
        task: Whose answers they are.
        oddities: Whether to let the last of several answers of one id count, and whatever is no text pass for a
            label, as the published evaluator does.

    Raises:
        DataError: The file is missing, broken or of another task; an id occurs twice; an answer is no text (a number
            passes for a label).
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"There is no file {path} with outputs of {task.id}.")
    _check_task_of(path, task)
    outputs: dict[str, str] = {}
    for _, raw in objects_of(path):
        if not isinstance(raw, dict) or "id" not in raw or "output" not in raw:
            raise DataError(
                f"{path}: answer {len(outputs) + 1} has no id and output; the format is "
                f'{{"task": "{task.id}", "golds": [{{"id": "...", "output": "..."}}]}}.'
            )
        id, output = str(raw["id"]), raw["output"]
        if id in outputs and not oddities:
            raise DataError(f"{path} has two answers of question {id}.")
        if not isinstance(output, str):
            if not task.labels or not (oddities or type(output) in (int, float)):
                raise DataError(f"{path}: the answer of question {id} must be a text, not {output!r}.")
            output = str(output)
        outputs[id] = output
    return outputs


def write_outputs(path: str | Path, task: LampTask, outputs: Mapping[str, str]) -> Path:
    """Writes a file of predictions, or of golds, as the published evaluator reads it.

    Args:
        path: The file; one that exists is replaced.
        task: Whose answers they are.
        outputs: The answers by the ids of their questions.

    Returns:
        The path.
    """
    path = Path(path)
    golds = [{"id": id, "output": output} for id, output in outputs.items()]
    path.write_text(json.dumps({"task": task.id, "golds": golds}) + "\n", encoding="utf-8")
    return path


def write_questions(
    folder: str | Path, task: LampTask, split: str, questions: Iterable[Question], *, outputs: bool = True
) -> None:
    """Writes ``<split>_questions.json`` and ``<split>_outputs.json`` in the published format, one question at a time.

    A question whose user is not its own id gets a ``user_id``, and an item that has one a ``date``, as in the split
    by time.

    Args:
        folder: Where to; it is made where it does not exist.
        task: What is asked.
        split: ``train``, ``dev`` or ``test``.
        questions: Any number of them.
        outputs: Whether to write the answers; the published test part has none.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    golds: dict[str, str] = {}
    with (folder / f"{split}_questions.json").open("w", encoding="utf-8") as file:
        file.write("[")
        for k, question in enumerate(questions):
            file.write((", " if k else "") + json.dumps(_raw(question)))
            golds[question.id] = question.output or ""
        file.write("]\n")
    if outputs:
        write_outputs(folder / f"{split}_outputs.json", task, golds)


def evaluate_files(
    golds: str | Path,
    predictions: str | Path,
    task: int | str | LampTask,
    *,
    oddities: bool = False,
    with_meteor: bool = False,
) -> dict[str, float]:
    """The official figures of a file of predictions; see `hare_gym.lamp.metrics.evaluate`.

    Raises:
        DataError: What `read_outputs` and `metrics.evaluate` refuse.
    """
    task = _task(task)
    if task == TASKS[2] and _holds_old_labels(Path(golds)):
        task = OLD_TASK_2
    return metrics.evaluate(
        task,
        read_outputs(golds, task, oddities=oddities),
        read_outputs(predictions, task, oddities=oddities),
        oddities=oddities,
        with_meteor=with_meteor,
    )


class _Index:
    """What is kept of the questions while their file is read."""

    def __init__(self, path: Path, task: LampTask, ids_only: bool) -> None:
        self.path, self.task, self.ids_only = path, task, ids_only
        self.places: list[Place] = []
        self.ids: dict[str, None] = {}
        self.owners: list[str] = []
        self.outputs: list[str | None] = []
        self.settled = False  # whether a profile has told which of the two tasks 2 it is, and whether texts are there
        self.timed = False

    def add(self, place: Place, raw: Any, golds: Mapping[str, str] | None) -> None:
        if not self.settled:
            self._settle(raw)
        question = _question(raw, self.task, len(self.ids), f"{self.path}", self.ids_only)
        if question.id in self.ids:
            raise DataError(f"{self.path} has two questions {question.id}.")
        output = question.output
        if golds is not None:
            output = golds.get(question.id)
        self.timed = self.timed or "user_id" in raw
        self.places.append(place)
        self.ids[question.id] = None
        self.owners.append(question.user)
        self.outputs.append(output)

    def data(self, split: str) -> LampData:
        outputs = tuple(self.outputs)
        for id, output in zip(self.ids, outputs, strict=True):
            if output is not None:
                metrics.check_gold(self.task, id, output)
        places = np.array(self.places, dtype=np.int64)
        questions = _Questions(self.path, self.task, places, tuple(self.ids), outputs, self.ids_only)
        return LampData(self.task, split, questions, tuple(self.ids), tuple(self.owners), outputs, timed=self.timed)

    def _settle(self, raw: Any) -> None:
        profile = raw.get("profile") if isinstance(raw, dict) else None
        if not isinstance(profile, list) or not profile or not isinstance(profile[0], dict):
            return
        self.settled = True
        if self.task.number == 2 and "category" in profile[0]:
            self.task = OLD_TASK_2
        if self.task.number == 6 and not self.ids_only and "title" not in profile[0]:
            raise DataError(
                f"{self.path} holds ids of e-mails in place of their texts. {_AVOCADO} To open the ids alone, ask "
                "for ids_only=True."
            )


class _Questions(Sequence[Question]):
    """Questions that are read from their file each time that they are looked up."""

    def __init__(
        self,
        path: Path,
        task: LampTask,
        places: NDArray[np.int64],
        ids: tuple[str, ...],
        outputs: tuple[str | None, ...],
        ids_only: bool,
    ) -> None:
        self.path, self.task, self.places, self.ids, self.outputs = path, task, places, ids, outputs
        self.ids_only = ids_only

    def __len__(self) -> int:
        return len(self.ids)

    @overload
    def __getitem__(self, index: int) -> Question: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Question]: ...
    def __getitem__(self, index: int | slice) -> Question | Sequence[Question]:
        if isinstance(index, slice):
            return [self[k] for k in range(*index.indices(len(self)))]
        position = range(len(self))[index]
        start, size = self.places[position].tolist()
        question = None
        try:
            with self.path.open("rb") as file:
                raw = read_at(file, Place(start, size))
            question = _question(raw, self.task, position, f"{self.path}", self.ids_only, self.outputs[position])
        except (OSError, ValueError):  # a DataError is a ValueError
            pass
        if question is None or question.id != self.ids[position]:
            raise DataError(f"{self.path} has changed since it was opened; open it again.")
        return question


def _question(
    raw: Any, task: LampTask, position: int, where: str, ids_only: bool, output: str | None = None
) -> Question:
    if not isinstance(raw, dict):
        raise DataError(f"{where}: question {position + 1} must be an object, not {type(raw).__name__}.")
    for name, kinds, what in (("id", str | int, "a text"), ("input", str, "a text"), ("profile", list, "a list")):
        if name == "id" and not task.number and name not in raw:
            continue  # LongLaMP's tables give their rows no ids
        if not isinstance(raw.get(name), kinds):
            wrong = f"must be {what}, not {raw[name]!r:.40}" if name in raw else "is missing"
            raise DataError(f"{where}: {name!r} of question {raw.get('id', position + 1)} of {task.id} {wrong}.")
    id = str(raw.get("id", position))
    users = ("user_id",) if task.number else ("user_id", *_LONG_USERS)
    user = next((str(raw[name]) for name in users if raw.get(name) is not None), id)
    if output is None and not task.number and raw.get("output") is not None:
        output = str(raw["output"])
    names = ("text",) if ids_only else task.fields
    items = []
    for k, item in enumerate(raw["profile"]):
        fields = {}
        for name in names:
            value = item.get(name) if isinstance(item, dict) else None
            if not isinstance(value, str):
                value = _mended(item, name, task, f"{where}: profile item {k + 1} of question {id}")
            fields[name] = value
        if task.number == 3 and fields["score"] not in task.labels:
            fields["score"] = _rating(fields["score"], f"{where}: profile item {k + 1} of question {id}")
        date = item.get("date")
        items.append(ProfileItem(str(item.get("id", k)), fields, None if date is None else str(date)))
    return Question(id, raw["input"], tuple(items), user, output)


def _mended(item: Any, name: str, task: LampTask, whose: str) -> str:
    """The text of a field that is none as it stands."""
    if isinstance(item, dict):
        for known in (name, _ALSO_CALLED.get(name)):
            if known in item and (item[known] is None or isinstance(item[known], str | int | float)):
                return "" if item[known] is None else str(item[known])
    raise DataError(f"{whose} has no text {name!r}; those of {task.id} have {', '.join(task.fields)}.")


def _rating(text: str, whose: str) -> str:
    try:
        rating = float(text)
    except ValueError:
        rating = 0.0
    if rating not in (1.0, 2.0, 3.0, 4.0, 5.0):
        raise DataError(f"{whose}: the score {text!r} is no rating; it must be 1, 2, 3, 4 or 5.")
    return str(int(rating))


def _raw(question: Question) -> dict[str, Any]:
    raw: dict[str, Any] = {"id": question.id, "input": question.input, "profile": []}
    for item in question.profile:
        dated = {} if item.date is None else {"date": item.date}
        raw["profile"].append({**item.fields, "id": item.id, **dated})
    if question.user not in ("", question.id):
        raw["user_id"] = question.user
    return raw


def _task(task: int | str | LampTask) -> LampTask:
    if isinstance(task, LampTask):
        return task
    if task in LONG_TASKS:
        return LONG_TASKS[str(task)]
    if isinstance(task, str) and not task.isdecimal():
        raise unknown_name("LaMP task", task, [*map(str, TASKS), *LONG_TASKS])
    return task_of(int(task))


def _find(folder: Path, task: LampTask, split: str) -> Path:
    """The file of a task's questions."""
    if not folder.is_dir():
        raise DataError(f"There is no folder {folder} with files of {task.id}. {_how_to_get(task, split)}")
    here = [folder, folder / split]
    name = f"{split}_questions.json"
    if task.number:
        tree = folder / task.id
        newer = [] if task != TASKS[2] else [folder / "new" / split, tree / "new" / split, tree / "new"]
        places = [place / name for place in (*newer, *here, tree / split, tree)]
    else:
        names = [name, *(alias + end for alias in _LONG_SPLITS[split] for end in (".json", ".jsonl"))]
        places = [place / known for place in here for known in names]
    for place in places:
        if place.is_file():
            return place
    for place in [] if task.number else here:
        for alias in _LONG_SPLITS[split]:
            tables = [place / f"{alias}.parquet"] if (place / f"{alias}.parquet").is_file() else []
            if tables := tables or sorted(place.glob(f"{alias}-*.parquet")):
                return lines_of(tables)
    raise DataError(
        f"{folder} has no {name} of {task.id} (nor have its folders {split}/ and {task.id}/). "
        f"{_how_to_get(task, split)}"
    )


def _how_to_get(task: LampTask, split: str) -> str:
    licence = f"The licence is {LICENCE}: for research, not for sale, and with the authors' names."
    if not task.number:
        texts = _AVOCADO if task.name == "email" else f"Get it from {_LONG_SITE}."
        return f"{texts} {licence}"
    tree = f"{task.id}/new" if task == TASKS[2] else task.id
    texts = f" {_AVOCADO}" if task.number == 6 else ""
    return (
        f"Get the files from {_SITE} (by user: {_FILES}/{tree}/{split}/, by time: {_FILES}/time/{tree}/{split}/)."
        f"{texts} {licence}"
    )


def _golds_beside(path: Path, task: LampTask, split: str, ids_only: bool) -> dict[str, str] | None:
    """The answers to a file of questions; None where there need be none, or where the questions hold their own."""
    if path.name != f"{split}_questions.json":
        return None
    outputs = path.with_name(f"{split}_outputs.json")
    if not outputs.is_file():
        if split == "test" or ids_only:
            return None
        raise DataError(
            f"{path.parent} has {path.name} and no {outputs.name}, which holds the answers. "
            f"{_how_to_get(task, split)}"
        )
    return read_outputs(outputs, task)


_TASK_OF_FILE = re.compile(r'\s*\{\s*"task"\s*:\s*"([^"]*)"')


def _check_task_of(path: Path, task: LampTask) -> None:
    with path.open(encoding="utf-8", errors="replace") as file:
        named = _TASK_OF_FILE.match(file.read(1000))
    if named and named[1] != task.id and task.number:
        near = " Write it with an underscore." if named[1] == task.id.replace("_", "-") else ""
        raise DataError(f"{path} holds answers of {named[1]}, not of {task.id}.{near}")


def _holds_old_labels(path: Path) -> bool:
    """Whether a file of golds is of the older task 2."""
    outputs = read_outputs(path, TASKS[2], oddities=True).values()
    return any(output.strip() in OLD_TASK_2.labels for output in outputs)
