"""LongLaMP's Parquet tables as JSON lines, one row each: what is asked for one at a time must have a place in a file.

A table's rows are packed in groups of hundreds, so that looking one up would unpack them all. The lines lie in the
user's cache, named after the tables' paths, sizes and times of change.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path

from hare_gym.errors import DataError
from hare_gym.text.encoders import cache_folder

# Rows in memory at once.
_ROWS = 64


def lines_of(tables: Sequence[Path]) -> Path:
    """The rows of some tables, one after the other, as a file of JSON lines; it is written once.

    Args:
        tables: At least one; the parts of one table, in order.

    Raises:
        DataError: A file is no Parquet table.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    digest = hashlib.sha256()
    for table in tables:
        stat = table.stat()
        digest.update(f"{table.absolute()}\0{stat.st_size}\0{stat.st_mtime_ns}\0".encode("utf-8", "surrogateescape"))
    path = cache_folder() / "longlamp" / f"{digest.hexdigest()[:32]}.jsonl"
    if path.is_file():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{os.getpid()}.tmp")
    try:
        with partial.open("w", encoding="utf-8") as file:
            for table in tables:
                try:
                    for batch in pq.ParquetFile(table).iter_batches(batch_size=_ROWS):
                        file.writelines(json.dumps(row, default=str) + "\n" for row in batch.to_pylist())
                except (pa.ArrowException, OSError) as error:
                    why = str(error).splitlines()[0]
                    raise DataError(
                        f"{table} is no Parquet table that can be read: {why} Download it again."
                    ) from None
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return path
