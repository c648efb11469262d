"""What the tests share: one thread a library, a small log, and the knobs that some environments must be given."""

import os
import sys
import uuid

# before NumPy or torch is imported
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import pytest


@pytest.fixture(scope="session")
def log_csv(tmp_path_factory):
    """A log of 400 events by a uniform policy over 5 items, in the layout ``columns`` of HareReplay-v0."""
    rng = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("log") / "log.csv"
    lines = ["age,device,action,reward,propensity"]
    for _ in range(400):
        age, device, action = rng.normal(40, 10), rng.choice(["phone", "desk"]), rng.integers(5)
        reward = int(rng.random() < (0.6 if (device == "phone") == (action < 2) else 0.2))
        lines.append(f"{age:.3f},{device},{action},{reward},0.2")
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="session")
def required_knobs(log_csv):
    """By id, the knobs without which an environment cannot be made. An id that is not here needs none."""
    return {"HareReplay-v0": {"path": str(log_csv), "context": ["age", "device"]}}


@pytest.fixture
def in_process(monkeypatch, capsys, tmp_path):
    """`hare` in this process: quicker, and the same code from `main` on."""
    from hare_evaluation import cli

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["hare", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        output = capsys.readouterr()
        return int(ended.value.code or 0), output.out, output.err

    return call


@pytest.fixture(scope="session")
def postgres_server():
    """The URL of a running PostgreSQL."""
    from _postgres import BINARIES, WHY_NOT, postgres

    if BINARIES is None:
        if os.environ.get("CI") == "true":
            pytest.fail(WHY_NOT)
        pytest.skip(WHY_NOT)
    with postgres() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request, tmp_path):
    """A database without tables."""
    import sqlalchemy as sa

    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/tables.db"
    server = request.getfixturevalue("postgres_server")
    name = f"test_{uuid.uuid4().hex}"
    admin = sa.create_engine(server, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(sa.text(f"CREATE DATABASE {name}"))
    admin.dispose()
    return sa.make_url(server).set(database=name).render_as_string(hide_password=False)
