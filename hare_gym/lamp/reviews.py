"""Product reviews as questions of task 3, in the order of time, from a file of one JSON object a line.

The layout is that of Amazon Reviews 2023 (Hou et al. 2024, "Bridging Language and Items for Retrieval and
Recommendation"): ``rating`` 1 to 5, ``title``, ``text``, ``user_id`` and ``timestamp`` in milliseconds since 1970.
A question asks what a user gave for one review, and its profile is what the same user had written before. Nothing is
downloaded; the files are at https://amazon-reviews-2023.github.io.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from hare_gym.config import configure
from hare_gym.errors import DataError
from hare_gym.lamp.streaming import Place, objects_of, read_at
from hare_gym.lamp.tasks import TASKS, LampData, ProfileItem, Question

INPUT = (
    "What is the score of the following review on a scale of 1 to 5? just answer with 1, 2, 3, 4, or 5 without "
    "further explanation. review: "
)
"""How LaMP's own task 3 asks."""


@dataclass(frozen=True)
class ReviewsConfig:
    """Which reviews become questions.

    Attributes:
        min_profile: How many earlier reviews of its user a question needs.
        max_profile: How many of them, the latest, make its profile.
        max_users: How many users at most, the first in the file; None for all.
    """

    min_profile: int = field(default=1, metadata={"low": 0})
    max_profile: int = field(default=100, metadata={"low": 1})
    max_users: int | None = field(default=None, metadata={"low": 1})


def load_reviews(path: str | Path, *, progress: bool | None = None, **knobs: Any) -> LampData:
    """Opens a file of reviews.

    The file is read once; of each review its user, time and place are kept, about 50 bytes. Reviews of no words and
    ratings without a review are passed over. Of two reviews of one user at the same time, the one that stands first
    in the file is the earlier.

    Args:
        path: The file, ``*.jsonl``, unpacked.
        progress: Whether to show a bar; None for where it is long and standard error is a terminal.
        **knobs: `ReviewsConfig`'s.

    Returns:
        Questions of task 3, all users' in the order of time, under the name of split ``reviews``; ids are the numbers
        of their lines.

    Raises:
        UnknownNameError: A knob that there is not.
        ConfigError: A knob out of its range.
        DataError: No such file, a line that is no review, a rating that is none of 1 to 5, or no user with enough
            reviews.
    """
    config = configure(ReviewsConfig, knobs, "load_reviews")
    path = Path(path)
    if not path.is_file():
        raise DataError(
            f"There is no file {path}. Amazon Reviews 2023, for one, is at https://amazon-reviews-2023.github.io: "
            "one file a category, to be unpacked."
        )
    if path.suffix == ".gz":
        raise DataError(f"{path} is packed, and its reviews cannot be looked up in it. Unpack it: gunzip -k {path}.")
    users: dict[str, int] = {}
    owners, times, starts, sizes, lines = array("q"), array("q"), array("q"), array("q"), array("q")
    ratings = array("b")
    for line, (place, raw) in enumerate(objects_of(path, progress=progress), start=1):
        user, time, rating, text = _checked(raw, f"{path}, review {line}")
        if not text.strip():
            continue
        if user not in users:
            if config.max_users is not None and len(users) == config.max_users:
                continue
            users[user] = len(users)
        for column, value in zip(
            (owners, times, starts, sizes, lines, ratings),
            (users[user], time, place.start, place.size, line, rating),
            strict=True,
        ):
            column.append(value)
    index = _Index(config, np.array(owners), np.array(times), np.array(starts), np.array(sizes), np.array(lines))
    if not len(index.asked):
        raise DataError(
            f"{path} has no user with {config.min_profile + 1} reviews, which is what a question and a profile of "
            f"{config.min_profile} take. Give another file or a smaller min_profile."
        )
    names = list(users)
    golds = np.array(ratings)[index.asked].tolist()
    ids = tuple(str(line) for line in index.lines[index.asked].tolist())
    return LampData(
        TASKS[3],
        "reviews",
        _Reviews(path, index, ids),
        ids,
        tuple(names[k] for k in index.owners[index.asked].tolist()),
        tuple(str(rating) for rating in golds),
    )


class _Index:
    """Where each review stands, which of them are asked about, and which came before each by the same user."""

    def __init__(
        self,
        config: ReviewsConfig,
        owners: NDArray[np.int64],
        times: NDArray[np.int64],
        starts: NDArray[np.int64],
        sizes: NDArray[np.int64],
        lines: NDArray[np.int64],
    ) -> None:
        self.owners, self.starts, self.sizes, self.lines = owners, starts, sizes, lines
        self.max_profile = config.max_profile
        self.by_user = np.lexsort((lines, times, owners))  # users' reviews side by side, each in the order of time
        place = np.empty_like(self.by_user)
        place[self.by_user] = np.arange(len(place))
        sorted_owners = owners[self.by_user]
        first = np.searchsorted(sorted_owners, sorted_owners)
        self.place, self.first = place, first[place]
        earlier = place - self.first
        order = np.lexsort((lines, times))
        self.asked = order[earlier[order] >= config.min_profile]

    def before(self, review: int) -> list[int]:
        """The latest reviews of the same user before one, the oldest first."""
        place = int(self.place[review])
        kept: list[int] = self.by_user[max(int(self.first[review]), place - self.max_profile) : place].tolist()
        return kept


class _Reviews(Sequence[Question]):
    """Questions that are read from their file each time that they are looked up."""

    def __init__(self, path: Path, index: _Index, ids: tuple[str, ...]) -> None:
        self.path, self.places, self.ids = path, index, ids

    def __len__(self) -> int:
        return len(self.ids)

    @overload
    def __getitem__(self, index: int) -> Question: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Question]: ...
    def __getitem__(self, index: int | slice) -> Question | Sequence[Question]:
        if isinstance(index, slice):
            return [self[k] for k in range(*index.indices(len(self)))]
        review = int(self.places.asked[index])
        reviews = [*self.places.before(review), review]
        try:
            with self.path.open("rb") as file:
                read = [self._read(file, k) for k in reviews]
        except (OSError, ValueError):
            raise DataError(f"{self.path} has changed since it was opened; open it again.") from None
        user, _, rating, text = read[-1]
        profile = tuple(
            ProfileItem(
                str(self.places.lines[k]),
                {"text": written, "score": str(given)},
                datetime.fromtimestamp(time / 1000, UTC).date().isoformat(),
            )
            for k, (_, time, given, written) in zip(reviews[:-1], read[:-1], strict=True)
        )
        return Question(str(self.places.lines[review]), INPUT + text, profile, user, str(rating))

    def _read(self, file: Any, review: int) -> tuple[str, int, int, str]:
        place = Place(int(self.places.starts[review]), int(self.places.sizes[review]))
        return _checked(read_at(file, place), "a review")


def _checked(raw: Any, where: str) -> tuple[str, int, int, str]:
    """User, time, rating and words of a review: its title and its text."""
    for name in ("rating", "user_id", "timestamp", "text"):
        if not isinstance(raw, dict) or name not in raw:
            raise DataError(f"{where} has no {name!r}; it needs rating, user_id, timestamp and text.")
    rating, time = raw["rating"], raw["timestamp"]
    try:
        stars = float(rating)
    except (TypeError, ValueError):
        stars = 0.0
    if stars not in (1.0, 2.0, 3.0, 4.0, 5.0):
        raise DataError(f"{where}: the rating {json.dumps(rating)} must be 1, 2, 3, 4 or 5.")
    if type(time) is not int or not 0 <= time < 1 << 47:
        raise DataError(f"{where}: the timestamp {json.dumps(time)} must be milliseconds since 1970.")
    text, title = raw["text"], raw.get("title") or ""
    if not isinstance(text, str) or not isinstance(title, str):
        raise DataError(f"{where}: its title and text must be strings.")
    return str(raw["user_id"]), time, int(stars), f"{title.strip()}\n{text.strip()}".strip()
