import re

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hare_gym.errors import DataError, UnknownNameError
from hare_gym.tables import MAX_LEVELS, encode, read_table, standardise


def write(path, text):
    path.write_text(text)
    return path


@pytest.fixture
def frame():
    return pd.DataFrame({"a": [1.0, 2.5, 4.0], "b": ["x", "y", "x"], "c": [3, 3, 3]})


@pytest.mark.parametrize("ending", [".csv", ".csv.gz", ".parquet"])
def test_every_format_gives_the_same_table(tmp_path, frame, ending):
    path = tmp_path / f"t{ending}"
    frame.to_parquet(path) if ending == ".parquet" else frame.to_csv(path)
    table = read_table(path)
    # to_csv wrote its row numbers as a column without a name
    assert table.columns == ["a", "b", "c"] and len(table) == 3
    assert table.numbers("a").tolist() == [1.0, 2.5, 4.0]
    assert table.integers("c").tolist() == [3, 3, 3]
    assert table.levels("b")[0] == ["x", "y"] and table.levels("b")[1].tolist() == [0, 1, 0]


def test_a_file_is_read_once_until_it_changes(tmp_path):
    path = write(tmp_path / "t.csv", "a\n1\n")
    assert read_table(path) is read_table(str(path))
    write(path, "a\n1\n22\n")
    assert len(read_table(path)) == 2


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.csv", b"", "empty.csv is empty: it has no header and no rows."),
        ("head.csv", b"a,b\n", "head.csv is empty: it has a header and no rows."),
        ("t.parquet", b"no parquet", "t.parquet cannot be read; its content does not fit its ending: "),
        ("t.csv.gz", b"no gzip", "t.csv.gz cannot be read; its content does not fit its ending: "),
        ("t.csv", b"a,b\n1,2\n1,2,3\n", "t.csv cannot be read; its content does not fit its ending: "),
        ("t.csv", b"\xff\xfe\x00a", "t.csv cannot be read; its content does not fit its ending: "),
    ],
)
def test_broken_files(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=re.escape(message)):
        read_table(tmp_path / name)


def test_missing_files_and_unknown_endings(tmp_path):
    write(tmp_path / "log.csv", "a\n1\n")
    with pytest.raises(DataError, match=r"There is no file '.*lgo\.csv'\. Tables in that folder: log\.csv\."):
        read_table(tmp_path / "lgo.csv")
    with pytest.raises(DataError, match=r"is a folder: give a file that ends in \.csv, \.csv\.gz, \.parquet\."):
        read_table(tmp_path)
    with pytest.raises(DataError, match=r"x\.xlsx' is of an unsupported kind: give a file that ends in"):
        read_table(write(tmp_path / "x.xlsx", "a"))


def test_missing_column(tmp_path):
    table = read_table(write(tmp_path / "t.csv", "click,price\n1,2\n"))
    with pytest.raises(UnknownNameError, match=r"Unknown column of t\.csv 'clik'\. Did you mean 'click'\?"):
        table.numbers("clik")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["1", "", "3", ""], "column 'a' holds no value (or NaN) in row 2 (2 such rows; the row under the header"),
        (["1", "2", "nan"], "column 'a' holds no value (or NaN) in row 3 (1 such rows"),
        (["inf", "2"], "column 'a' holds infinity in row 1 (1 such rows"),
        (["1", "two", "3"], "column 'a' must hold numbers; row 2 holds 'two'."),
    ],
)
def test_values_that_are_no_numbers(tmp_path, rows, message):
    table = read_table(write(tmp_path / "t.csv", "\n".join(["b,a", *(f"0,{row}" for row in rows)])))
    with pytest.raises(DataError, match=re.escape(message)):
        table.numbers("a")
    with pytest.raises(DataError, match=re.escape(message)):
        encode(table, ["a"])


def test_whole_numbers(tmp_path):
    table = read_table(write(tmp_path / "t.csv", "a\n1.0\n2.5\n"))
    with pytest.raises(DataError, match=r"column 'a' must hold whole numbers; row 2 holds 2\.5\."):
        table.integers("a")


def test_twice_the_same_column(tmp_path):
    pq.write_table(pa.table([[1], [2]], names=["a", "a"]), tmp_path / "t.parquet")
    with pytest.raises(DataError, match=r"t\.parquet cannot be read; .* Multiple matches .*\(a\)"):
        read_table(tmp_path / "t.parquet")


def test_standardise():
    values = np.array([[1.0, 5.0, 1e200, 0.1], [3.0, 5.0, -1e200, 0.1], [5.0, 5.0, 0.0, 0.1]])
    found = standardise(values)
    assert np.allclose(found[:, [0, 2]].mean(axis=0), 0.0) and np.allclose(found[:, [0, 2]].std(axis=0), 1.0)
    assert (found[:, [1, 3]] == 0.0).all()


def test_encoded_vectors_have_squared_length_one_on_average(tmp_path):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {"x": rng.normal(5.0, 100.0, 50), "y": rng.random(50), "z": rng.choice(["p", "q", "r"], 50), "k": range(50)}
    )
    frame["place"] = rng.integers(1, 4, 50)
    frame.to_parquet(tmp_path / "t.parquet")
    table = read_table(tmp_path / "t.parquet")
    vectors = encode(table, ["x", "y", "z", "place"], categorical=["place"])
    assert vectors.shape == (50, 1 + 1 + 3 + 3)
    assert np.isclose((vectors**2).sum(axis=1).mean(), 1.0)
    # the levels are in sorted order and each row has one of each column's
    assert np.array_equal(vectors[:, 2:5].argmax(axis=1), frame["z"].map({"p": 0, "q": 1, "r": 2}))
    assert np.allclose(vectors[:, 2:5].sum(axis=1), 0.5) and np.allclose(vectors[:, 5:].sum(axis=1), 0.5)
    assert np.array_equal(encode(table, ["x", "y"], scale=False), frame[["x", "y"]].to_numpy())


def test_identifiers_are_no_features(tmp_path):
    rows = "\n".join(f"id-{i}" for i in range(MAX_LEVELS + 1))
    table = read_table(write(tmp_path / "t.csv", f"name\n{rows}\n"))
    with pytest.raises(DataError, match=r"column 'name' is text with 201 different values, more than the 200"):
        encode(table, ["name"])
    with pytest.raises(DataError, match="there is no column left to make a context of"):
        encode(table, [])
