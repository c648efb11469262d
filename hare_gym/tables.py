"""Tables from files: CSV and Parquet into checked columns, and columns into vectors of moderate length."""

from __future__ import annotations

import math
import os
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hare_gym.errors import DataError, unknown_name

Array = NDArray[np.float64]

ENDINGS = (".csv", ".csv.gz", ".parquet")

# A text column with more levels than this is an identifier or a date, and not a feature.
MAX_LEVELS = 200


@dataclass(frozen=True, eq=False)
class Table:
    """A table and where it came from, for the messages.

    Attributes:
        name: The file's name, or the data set's.
        frame: The pandas DataFrame; nobody changes it.
    """

    name: str
    frame: Any

    def __len__(self) -> int:
        return len(self.frame)

    @property
    def columns(self) -> list[str]:
        """The names of the columns, in order."""
        return list(self.frame.columns)

    def column(self, name: str) -> Any:
        """One column as a pandas Series without missing or infinite values.

        Raises:
            UnknownNameError: There is no such column.
            DataError: A value is missing, NaN or infinite.
        """
        if name not in self.frame.columns:
            raise unknown_name(f"column of {self.name}", name, self.columns)
        column = self.frame[name]
        bad = np.array(column.isna())
        if column.dtype.kind == "f":
            bad |= ~np.isfinite(column.to_numpy(dtype=np.float64, na_value=math.nan))
        if bad.any():
            row = int(bad.argmax())
            what = "infinity" if not column.isna().iloc[row] else "no value (or NaN)"
            raise DataError(
                f"{self.name}: column {name!r} holds {what} in row {row + 1} ({int(bad.sum())} such rows; "
                "the row under the header is row 1). Fill the gaps or leave the rows out."
            )
        return column

    def is_numeric(self, name: str) -> bool:
        """Whether a column holds numbers (or booleans).

        Raises:
            DataError: Most of a text column reads as numbers, so the rest are slips.
        """
        import pandas as pd

        column = self.column(name)
        if column.dtype.kind in "biuf":
            return True
        text = pd.to_numeric(column.astype(str), errors="coerce").isna().to_numpy()
        if text.mean() < 0.5:
            self._not_a_number(name, column, text)
        return False

    def numbers(self, name: str) -> Array:
        """One column as finite float64, ``(n,)``.

        Raises:
            UnknownNameError: There is no such column.
            DataError: A value that is missing, NaN, infinite or no number; the column and first row are named.
        """
        import pandas as pd

        column = self.column(name)
        if column.dtype.kind not in "biuf":
            text = pd.to_numeric(column.astype(str), errors="coerce").isna().to_numpy()
            if text.any() or column.dtype.kind == "M":
                self._not_a_number(name, column, text | (column.dtype.kind == "M"))
            column = pd.to_numeric(column.astype(str))
        values = column.to_numpy(dtype=np.float64)
        if not np.isfinite(values).all():
            row = int((~np.isfinite(values)).argmax())
            raise DataError(f"{self.name}: column {name!r} holds infinity in row {row + 1}.")
        return np.array(values)

    def integers(self, name: str) -> NDArray[np.int64]:
        """One column of whole numbers, ``(n,)``; 3.0 counts as 3.

        Raises:
            UnknownNameError: There is no such column.
            DataError: As for :meth:`numbers`, or a number that is not whole.
        """
        values = self.numbers(name)
        broken = (values != np.rint(values)) | (np.abs(values) >= 2.0**53)
        if broken.any():
            row = int(broken.argmax())
            raise DataError(
                f"{self.name}: column {name!r} must hold whole numbers; row {row + 1} holds {float(values[row])!r}."
            )
        return values.astype(np.int64)

    def levels(self, name: str) -> tuple[list[Any], NDArray[np.int64]]:
        """One column's distinct values, sorted, and each row's place among them, ``(n,)``."""
        column = self.column(name)
        values = column.to_numpy() if column.dtype.kind in "biuf" else column.astype(str).to_numpy(dtype=object)
        levels, codes = np.unique(values, return_inverse=True)
        return levels.tolist(), codes.astype(np.int64)

    def _not_a_number(self, name: str, column: Any, broken: NDArray[np.bool_]) -> None:
        row = int(broken.argmax())
        raise DataError(
            f"{self.name}: column {name!r} must hold numbers; row {row + 1} holds {str(column.iloc[row])!r}."
        )


def read_table(path: str | os.PathLike[str]) -> Table:
    """Reads a CSV (also gzipped) or Parquet file. CSV columns without a name (row indices) are left out.

    Args:
        path: A file whose name ends in ``.csv``, ``.csv.gz`` or ``.parquet``.

    Returns:
        The table. Reading an unchanged file again costs nothing.

    Raises:
        DataError: No such file, an unsupported ending, a broken file, or one without rows.
    """
    file = Path(path).expanduser()
    if not file.exists():
        near = ", ".join(sorted(p.name for p in file.parent.glob("*") if p.name.endswith(ENDINGS))[:10])
        hint = f" Tables in that folder: {near}." if near else ""
        raise DataError(f"There is no file {str(file)!r}.{hint}")
    if not file.is_file() or not file.name.lower().endswith(ENDINGS):
        what = "a folder" if file.is_dir() else "of an unsupported kind"
        raise DataError(f"{str(file)!r} is {what}: give a file that ends in {', '.join(ENDINGS)}.")
    stat = file.stat()
    return _read(file.resolve(), stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=8)
def _read(file: Path, modified: int, size: int) -> Table:
    import pandas as pd

    try:
        if file.name.lower().endswith(".parquet"):
            frame = pd.read_parquet(file)
        else:
            frame = pd.read_csv(file, low_memory=False)
            frame = frame[[name for name in frame.columns if not str(name).startswith("Unnamed: ")]]
    except pd.errors.EmptyDataError:
        raise DataError(f"{file.name} is empty: it has no header and no rows.") from None
    except (
        ValueError,
        OSError,
        EOFError,
        zlib.error,
    ) as error:  # pandas' and pyarrow's own derive from the first two
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise DataError(f"{file.name} cannot be read; its content does not fit its ending: {first}") from error
    frame.columns = [str(name) for name in frame.columns]
    if not len(frame):
        raise DataError(f"{file.name} is empty: it has a header and no rows.")
    return Table(file.name, frame)


def standardise(values: Array) -> Array:
    """Columns of ``(n, d)`` to mean 0 and standard deviation 1; a constant column becomes 0."""
    centred = values - values.mean(axis=0)
    # by the largest value first, so that the square of a huge column does not overflow
    largest = np.abs(centred).max(axis=0)
    constant = largest <= 1e-12 * np.abs(values).max(axis=0)
    centred = centred / np.where(constant, 1.0, largest)
    deviation = np.sqrt((centred * centred).mean(axis=0))
    return np.where(constant, 0.0, centred / np.where(constant, 1.0, deviation))


def encode(table: Table, columns: Sequence[str], scale: bool = True, categorical: Sequence[str] = ()) -> Array:
    """Columns as vectors whose squared length is 1 on average.

    A column of numbers becomes one standardised value, a column of text one value for each of its levels (sorted),
    1 for the row's own level and 0 for the others. All is divided by the square root of the number of columns, so
    that each column adds 1/len(columns) to the mean squared length (a constant one adds nothing).

    Args:
        table: Where the columns are.
        columns: Their names.
        scale: ``False`` leaves columns of numbers as they are, not standardised and not divided.
        categorical: Columns that are categories even if they hold numbers.

    Returns:
        float64, ``(len(table), dimensions)``.

    Raises:
        UnknownNameError: There is no such column.
        DataError: Missing or infinite values, or a text column with more levels than a feature has.
    """
    if not columns:
        raise DataError(f"{table.name}: there is no column left to make a context of.")
    parts = []
    factor = 1.0 / math.sqrt(len(columns))
    for name in columns:
        if name not in categorical and table.is_numeric(name):
            values = table.numbers(name)[:, None]
            parts.append(standardise(values) * factor if scale else values)
            continue
        levels, codes = table.levels(name)
        if len(levels) > MAX_LEVELS:
            raise DataError(
                f"{table.name}: column {name!r} is text with {len(levels)} different values, more than the "
                f"{MAX_LEVELS} that are encoded as categories. Leave the column out or group its values."
            )
        parts.append(np.eye(len(levels))[codes] * factor)
    return np.concatenate(parts, axis=1)
