"""Answers on the disk: one file a sheet, whole after every answer, without a name in it."""

from __future__ import annotations

import json
import os
import re
import threading
import time
from pathlib import Path
from typing import Any

from hare_evaluation.human_study.design import RATINGS, SCALES, SIDES
from hare_gym.errors import DataError

CODE = re.compile(r"^P[0-9]{2,4}-[0-9a-f]{8}$")
FIELDS = frozenset({f"{side}.{scale}" for side in SIDES for scale in SCALES} | {"choice"})


class Answers:
    """The answers to the sheets of a study.

    Args:
        folder: Of the study.

    Raises:
        DataError: There are no sheets.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.codes = sorted(path.stem for path in (folder / "sheets").glob("P*.json"))
        if not self.codes:
            raise DataError(f"There are no sheets in {str(folder)!r}. Make them with: hare study sheets")
        (folder / "answers").mkdir(exist_ok=True)
        self._lock = threading.Lock()

    def sheet(self, code: str) -> dict[str, Any]:
        """A sheet; raises DataError for a code that is none."""
        if not CODE.match(code) or code not in self.codes:
            raise DataError("There is no such sheet. Use the link as it was given.")
        loaded: dict[str, Any] = json.loads((self.folder / "sheets" / f"{code}.json").read_text(encoding="utf-8"))
        return loaded

    def of(self, code: str) -> list[dict[str, Any]]:
        """A sheet's answers so far, by round: ``a.relevance`` and so on from 1 to 5, ``choice`` a side."""
        sheet = self.sheet(code)
        path = self._path(code)
        if not path.exists():
            return [{} for _ in sheet["rounds"]]
        loaded: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
        return loaded

    def put(self, code: str, round: int, field: str, value: Any) -> None:
        """Keeps one answer; it is on the disk when this returns.

        Raises:
            DataError: No such sheet, round or question, or a value that is none of its answers.
        """
        with self._lock:
            answers = self.of(code)
            if isinstance(round, bool) or not isinstance(round, int) or not 0 <= round < len(answers):
                raise DataError(f"There is no round {round!r}: they go from 0 to {len(answers) - 1}.")
            if field not in FIELDS:
                raise DataError(f"There is no question {field!r}. Known: {', '.join(sorted(FIELDS))}.")
            allowed: tuple[Any, ...] = SIDES if field == "choice" else RATINGS
            if isinstance(value, bool) or value not in allowed or not isinstance(value, type(allowed[0])):
                raise DataError(f"{field} is {value!r}: it must be one of {', '.join(map(str, allowed))}.")
            answers[round] |= {field: value, "at": int(time.time())}
            path = self._path(code)
            partial = path.with_suffix(".tmp")
            with partial.open("w", encoding="utf-8") as file:
                json.dump(answers, file)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)

    def done(self, code: str) -> int:
        """How many rounds are answered in full."""
        return sum(answer.keys() >= FIELDS for answer in self.of(code))

    def _path(self, code: str) -> Path:
        return self.folder / "answers" / f"{code}.json"
