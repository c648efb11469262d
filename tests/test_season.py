"""Hidden seeds: 128 bits each, from a secret that was committed to before; the definition cannot change meanwhile."""

import hashlib
import json
import os

import pytest

from hare_evaluation.foundation import ConfigError, DataError, UnknownNameError
from hare_leaderboard.benchmark import benchmarks_folder, load_benchmark
from hare_leaderboard.season import Season, default_secret_path, load_season, open_season, reveal_season

SMALL = """
version: small
limits: {act_seconds: 20, memory_mb: 1024}
tracks:
  bilinear-select:
    title: Select
    environments:
      - label: non-linear
        id: HareBilinear-v0
        kwargs: {horizon: 60, num_users: 4}
        hidden_seeds: 3
        public_seeds: 1
"""


@pytest.fixture
def benchmark(tmp_path):
    (tmp_path / "small.yaml").write_text(SMALL)
    return load_benchmark(str(tmp_path / "small.yaml"))


def test_commit_then_reveal(benchmark, tmp_path):
    secret = tmp_path / "keys/small.secret"
    public = open_season(benchmark, secret, tmp_path)
    assert os.stat(secret).st_mode & 0o777 == 0o600
    published = json.loads(public.read_text())
    assert published["definition_sha256"] == benchmark.sha256
    assert secret.read_text().strip() not in public.read_text()
    revealed = json.loads(reveal_season(benchmark, secret, tmp_path).read_text())
    assert hashlib.sha256(bytes.fromhex(revealed["secret"])).hexdigest() == published["commitment"]
    with pytest.raises(DataError, match="is open already"):
        open_season(benchmark, tmp_path / "another", tmp_path)
    with pytest.raises(DataError, match="never overwritten"):
        reveal_season(benchmark, secret, tmp_path)


def test_a_secret_is_never_overwritten(benchmark, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("precious")
    with pytest.raises(DataError, match="no secret is ever overwritten"):
        open_season(benchmark, secret, tmp_path)
    assert secret.read_text() == "precious" and not (tmp_path / "small.season.json").exists()


def test_what_is_wrong_with_a_season_is_said(benchmark, tmp_path):
    secret = tmp_path / "secret"
    with pytest.raises(ConfigError, match=r"No commitment was published for small.*season open small"):
        load_season(benchmark, secret, tmp_path)
    open_season(benchmark, secret, tmp_path)
    assert load_season(benchmark, secret, tmp_path).secret == bytes.fromhex(secret.read_text())
    with pytest.raises(ConfigError, match=r"cannot be read: No such file.*--public"):
        load_season(benchmark, tmp_path / "nowhere", tmp_path)
    other = tmp_path / "other"
    other.write_text("00" * 32)
    other.chmod(0o600)
    with pytest.raises(ConfigError, match=r"is not the secret that .* commits to"):
        load_season(benchmark, other, tmp_path)
    for text in ("00", "no digits"):
        other.write_text(text)
        with pytest.raises(ConfigError, match="must be 64 hexadecimal digits"):
            load_season(benchmark, other, tmp_path)
    secret.chmod(0o644)
    with pytest.raises(ConfigError, match=r"Others may read the secret .*chmod 600"):
        load_season(benchmark, secret, tmp_path)
    secret.chmod(0o600)
    (tmp_path / "small.yaml").write_text(SMALL.replace("horizon: 60", "horizon: 61"))
    changed = load_benchmark(str(tmp_path / "small.yaml"))
    with pytest.raises(ConfigError, match=r"was changed after .* was published"):
        load_season(changed, secret, tmp_path)


def test_every_seed_is_its_own(benchmark):
    season = Season(benchmark, b"s" * 32, "")
    seeds = {
        Season(benchmark, secret, "").seed(track, label, kind, index, purpose)
        for secret in (b"s" * 32, b"t" * 32)
        for track in ("a", "b")
        for label in ("x", "y")
        for kind in ("hidden", "public")
        for index in range(10)
        for purpose in ("environment", "agent")
    }
    assert len(seeds) == (2 + 1) * 2 * 2 * 10 * 2  # the public ones do not depend on the secret
    assert all(0 <= seed < 2**128 for seed in seeds) and max(seeds) > 2**120
    assert season.seed("a", "x", "hidden", 0, "agent") == season.seed("a", "x", "hidden", 0, "agent")
    with pytest.raises(ConfigError, match="need the season's secret"):
        Season(benchmark, None, "").seed("a", "x", "hidden", 0, "agent")


def test_a_seed_is_hmac_as_published(benchmark):
    import hmac

    message = b"small\nbilinear-select/non-linear\nhidden\n4\nenvironment"
    digest = hmac.new(b"k" * 32, message, hashlib.sha256).digest()
    found = Season(benchmark, b"k" * 32, "").seed("bilinear-select", "non-linear", "hidden", 4, "environment")
    assert found == int.from_bytes(digest[:16], "little")


def test_the_secret_lives_outside_of_every_checkout(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert default_secret_path("v1") == tmp_path / "hare-gym/seasons/v1.secret"


BUILT_IN = sorted(path.stem for path in benchmarks_folder().glob("*.yaml"))


@pytest.mark.parametrize("version", BUILT_IN)
def test_the_published_benchmarks_can_be_played(version):
    benchmark = load_benchmark(version)
    for track in benchmark.tracks.values():
        labels = [environment.label for environment in track.environments]
        assert len(set(labels)) == len(labels)
        for environment in track.environments:
            assert environment.as_result().horizon > 0
    published = benchmarks_folder() / f"{version}.season.json"
    if published.exists():  # nothing was changed since
        assert json.loads(published.read_text())["definition_sha256"] == benchmark.sha256


def test_what_is_wrong_with_a_benchmark_is_said(tmp_path):
    def loaded(text, name="small.yaml"):
        (tmp_path / name).write_text(text)
        return load_benchmark(str(tmp_path / name))

    with pytest.raises(UnknownNameError, match=r"Unknown benchmark 'v01'. Did you mean 'v1'"):
        load_benchmark("v01")
    with pytest.raises(UnknownNameError, match=r"Unknown limit 'memory'"):
        loaded(SMALL.replace("memory_mb", "memory"))
    with pytest.raises(ConfigError, match="tracks: Field required"):
        loaded("version: small\nlimits: {}\n")
    with pytest.raises(ConfigError, match="is of version 'small'"):
        loaded(SMALL, "large.yaml")
    with pytest.raises(UnknownNameError, match=r"Unknown track 'bilinear'. Did you mean 'bilinear-select'"):
        loaded(SMALL).track("bilinear")
