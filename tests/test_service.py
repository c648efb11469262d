"""HARE behind HTTP: what is answered is on the disk, what is wrong is said, and nothing is learned twice."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import pytest
import sqlalchemy as sa
from fastapi.testclient import TestClient

from hare_agents.database import StorageError
from hare_agents.service import schema
from hare_agents.service.app import create_app
from hare_agents.service.config import Limits, ServiceConfig
from hare_agents.service.errors import ConflictError
from hare_agents.service.recommender import NewItem, Recommender
from hare_gym.errors import ConfigError, DataError

DIM = 4
QUERY = [0.5, -0.5, 0.1, 0.0]


def pool(size=20):
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((size, DIM))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return [NewItem(f"item-{k}", vector.tolist()) for k, vector in enumerate(vectors)]


def begun(folder, items=None, **settings):
    return Recommender(
        f"sqlite:///{folder}/hare.db", ServiceConfig(dim=DIM, **settings), pool() if items is None else items
    )


@pytest.fixture
def recommender(tmp_path):
    made = begun(tmp_path)
    yield made
    made.close()


@pytest.fixture
def client(recommender):
    with TestClient(create_app(recommender)) as made:
        yield made


def ask(client, user="ada", **more):
    return client.post("/v1/recommend", json={"user": user, "query": QUERY, **more})


def test_it_recommends_learns_and_tells(client):
    first = ask(client, size=3).json()
    assert len(first["items"]) == 3
    assert len({item["id"] for item in first["items"]}) == 3
    assert first["content"] is None
    said = {"round": first["round"], "reward": 0.9, "item": first["items"][1]["id"]}
    assert client.post("/v1/feedback", json=said).json() == {"new": True}
    known = client.get("/v1/users/ada").json()
    assert (known["rounds"], known["rewards"]) == (1, 1)
    assert np.linalg.norm(known["state"]) > 0
    assert max(known["deviation"]) < 1.0 + 1e-9
    assert client.get("/health").json() == {"status": "ok", "users": 1, "items": 20, "rewards": 1}


def test_it_learns_whom_it_serves(client):
    """One likes items that another does not: after some rounds they are shown different ones."""
    wanted = {"ada": 0, "bob": 1}
    vectors = {item.key: item.vector for item in pool()}
    for _ in range(40):
        for user, axis in wanted.items():
            shown = ask(client, user).json()
            reward = 0.5 + 0.5 * vectors[shown["items"][0]["id"]][axis]
            client.post("/v1/feedback", json={"round": shown["round"], "reward": reward})
    for user, axis in wanted.items():
        got = vectors[ask(client, user).json()["items"][0]["id"]][axis]
        assert got > np.quantile([vector[axis] for vector in vectors.values()], 0.8)


def test_content_can_be_synthesized(client, recommender):
    made = ask(client, mode="synthesize", size=2).json()
    assert len(made["content"]) == DIM
    assert np.linalg.norm(made["content"]) <= 1 + 1e-6
    assert client.post("/v1/feedback", json={"round": made["round"], "reward": 1.0}).json() == {"new": True}
    with_item = {"round": made["round"], "reward": 1.0, "item": made["items"][0]["id"]}
    assert client.post("/v1/feedback", json=with_item).status_code == 422
    assert recommender.hare.t == 1


def test_replayed_feedback_changes_nothing_and_another_reward_is_refused(client, recommender):
    shown = ask(client).json()
    said = {"round": shown["round"], "reward": 0.5}
    assert client.post("/v1/feedback", json=said).json() == {"new": True}
    state = recommender.hare.state()
    assert client.post("/v1/feedback", json=said).json() == {"new": False}
    refused = client.post("/v1/feedback", json={**said, "reward": 0.6})
    assert refused.status_code == 409
    assert "got the reward 0.5 before; it cannot become 0.6" in refused.json()["detail"]
    after = recommender.hare.state()
    assert all(np.array_equal(state[name], after[name]) for name in state)


def test_concurrent_feedback_for_one_user_is_learned_once_each(client, recommender):
    rounds = [ask(client).json()["round"] for _ in range(12)]

    def say(round):
        return client.post("/v1/feedback", json={"round": round, "reward": 0.7}).json()["new"]

    with ThreadPoolExecutor(8) as threads:
        told = list(threads.map(say, rounds * 3))
    assert sum(told) == 12
    assert recommender.hare.t == 12
    assert client.get("/v1/users/ada").json()["rewards"] == 12


def test_the_pool_grows_and_shrinks(client):
    new = {"items": [{"id": "fresh", "vector": [0.1] * DIM, "text": "a text of its own"}]}
    assert client.post("/v1/pool", json=new).json() == {"items": 21}
    assert client.post("/v1/pool", json=new).status_code == 409
    assert client.get("/v1/pool", params={"size": 1}).json() == {
        "items": [{"id": "fresh", "text": "a text of its own"}]
    }
    shown = ask(client, size=21).json()
    assert client.delete("/v1/pool/fresh").status_code == 204
    assert client.delete("/v1/pool/fresh").status_code == 404
    assert len(ask(client, size=20).json()["items"]) == 20
    too_many = ask(client, size=21)
    assert too_many.status_code == 409
    assert "21 items were asked for, and the pool has 20" in too_many.json()["detail"]
    # a reward that comes late, for another item of that round
    kept = next(item["id"] for item in shown["items"] if item["id"] != "fresh")
    assert client.post("/v1/feedback", json={"round": shown["round"], "reward": 0.2, "item": kept}).json()["new"]


def test_a_deleted_user_is_forgotten_and_unlearned_by_the_next_start(tmp_path):
    def taught(recommender, user, reward):
        recommender.feedback(recommender.recommend(user, QUERY).round, reward)

    recommender = begun(tmp_path)
    for _ in range(5):
        taught(recommender, "ada", 0.9)
        taught(recommender, "bob", 0.1)
    assert recommender.delete_user("bob") == {"rounds": 5, "rewards": 5}
    assert not recommender.hare.user_state(2)[0].any()
    recommender.close()
    recommender = begun(tmp_path)
    assert recommender.counts() == {"users": 1, "items": 20, "rewards": 5}
    with sa.create_engine(f"sqlite:///{tmp_path}/hare.db").connect() as connection:
        assert connection.execute(sa.select(schema.users.c.key)).scalars().all() == ["ada"]
    taught(recommender, "bob", 0.5)
    assert recommender.user("bob")["rewards"] == 1
    recommender.close()


def test_either_database_serves(database_url):
    def started():
        return Recommender(database_url, ServiceConfig(dim=DIM), pool())

    recommender = started()
    shown = recommender.recommend("ada", QUERY, size=3)
    assert recommender.feedback(shown.round, 0.25, shown.items[2])
    assert not recommender.feedback(shown.round, 0.25, shown.items[2])
    with pytest.raises(StorageError, match=r"is served by another process\. End it"):
        started()
    mean, _ = recommender.hare.user_state(1)
    recommender.close()
    recommender = started()
    assert np.array_equal(recommender.hare.user_state(1)[0], mean)
    assert recommender.delete_user("ada") == {"rounds": 1, "rewards": 1}
    recommender.remove_item("item-7")
    recommender.close()
    recommender = started()
    assert recommender.counts() == {"users": 0, "items": 19, "rewards": 0}
    recommender.close()


@pytest.mark.parametrize("snapshots", [3, 1000])
def test_a_restart_goes_on_where_it_was(tmp_path, snapshots):
    """From a snapshot and from the log alone: the exact core is the same."""
    recommender = begun(tmp_path, snapshot_every=snapshots)
    rng = np.random.default_rng(1)
    for k in range(10):
        shown = recommender.recommend(f"user-{k % 3}", rng.standard_normal(DIM), synthesize=k == 4)
        recommender.feedback(shown.round, float(rng.random()))
        if k == 6:
            recommender.add_items([NewItem("late", [0.0] * DIM)])
            recommender.remove_item("item-3")
    states = [recommender.hare.user_state(number) for number in (1, 2, 3)]
    recommender._unlearn = snapshots == 1000  # so that closing leaves no snapshot behind
    recommender.close()
    again = begun(tmp_path, snapshot_every=snapshots)
    for (mean, Sigma), number in zip(states, (1, 2, 3), strict=True):
        np.testing.assert_allclose(again.hare.user_state(number)[0], mean, atol=1e-12)
        np.testing.assert_allclose(again.hare.user_state(number)[1], Sigma, atol=1e-12)
    assert again.counts() == {"users": 3, "items": 20, "rewards": 10}
    again.close()


def test_what_was_acknowledged_survives_a_kill(tmp_path):
    items = "\n".join(json.dumps({"id": item.key, "vector": item.vector}) for item in pool())
    (tmp_path / "pool.jsonl").write_text(items)
    port = 18_710 + os.getpid() % 1000
    command = [
        "serve",
        "--database",
        f"sqlite:///{tmp_path}/hare.db",
        "--pool",
        f"{tmp_path}/pool.jsonl",
        "--dim",
        str(DIM),
    ]
    server = subprocess.Popen(
        [sys.executable, "-c", "from hare_evaluation.cli import main; main()", *command, "--port", str(port)]
    )
    acknowledged: list[str] = []
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
            for _ in range(600):
                try:
                    client.get("/health")
                    break
                except httpx.TransportError:
                    time.sleep(0.1)

            def teach(user):
                while True:
                    try:
                        shown = client.post("/v1/recommend", json={"user": user, "query": QUERY}).json()
                        said = {"round": shown["round"], "reward": 0.5}
                        if client.post("/v1/feedback", json=said).status_code == 200:
                            acknowledged.append(shown["round"])
                    except httpx.TransportError:
                        return

            threads = [threading.Thread(target=teach, args=(f"user-{k}",)) for k in range(4)]
            for thread in threads:
                thread.start()
            while len(acknowledged) < 20:
                time.sleep(0.02)
            server.send_signal(signal.SIGKILL)
            for thread in threads:
                thread.join()
    finally:
        server.kill()
        server.wait()
    recommender = begun(tmp_path)
    with recommender.database.reading() as connection:
        kept = connection.execute(
            sa.select(schema.events.c.round).where(schema.events.c.reward.is_not(None))
        ).scalars()
        kept = kept.all()
    assert len(acknowledged) >= 20
    assert set(acknowledged) <= set(kept)
    assert len(kept) == len(set(kept)) == recommender.hare.t
    recommender.close()


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "says"),
    [
        ("POST", "/v1/recommend", {"user": "ada"}, 422, "needs either a vector or a text"),
        ("POST", "/v1/recommend", {"user": "ada", "query": QUERY, "text": "x"}, 422, "not both"),
        ("POST", "/v1/recommend", {"user": "ada", "text": "x"}, 422, "started without an encoder. Send a vector"),
        ("POST", "/v1/recommend", {"user": "ada", "query": [1.0]}, 422, "must have 4 numbers, not 1"),
        ("POST", "/v1/recommend", {"user": "<b>", "query": QUERY}, 422, "body.user: String should match pattern"),
        ("POST", "/v1/recommend", {"user": 7, "query": QUERY}, 422, "body.user: Input should be a valid string"),
        ("POST", "/v1/recommend", {"user": "ada", "query": QUERY, "szie": 2}, 422, "body.szie: Extra inputs"),
        ("POST", "/v1/recommend", {"user": "ada", "query": QUERY, "size": 0}, 422, "greater than or equal to 1"),
        ("POST", "/v1/feedback", {"round": "0" * 32, "reward": 0.5}, 404, "It was never recommended, or is older"),
        ("POST", "/v1/feedback", {"round": "0" * 32, "reward": 2}, 422, "less than or equal to 1"),
        ("GET", "/v1/users/nobody", None, 404, "There is no user 'nobody'"),
        ("DELETE", "/v1/users/nobody", None, 404, "There is no user 'nobody'"),
        ("POST", "/v1/pool", {"items": [{"id": "a"}]}, 422, "Item 'a' needs either a vector or a text"),
        ("POST", "/v1/pool", {"items": [{"id": "a", "vector": QUERY}] * 2}, 422, "'a' was given twice"),
        ("POST", "/v1/pool", {"items": [{"id": "item-0", "vector": QUERY}]}, 409, "'item-0' is in the pool already"),
    ],
)
def test_what_is_wrong_is_said(client, recommender, method, path, body, status, says):
    answer = client.request(method, path, json=body)
    assert answer.status_code == status
    assert says in answer.json()["detail"]
    assert recommender.counts()["rewards"] == 0
    assert recommender.counts()["items"] == 20


@pytest.mark.parametrize(
    "raw", [b"{", b"\xff\xfe", b'{"user": "a", "query": [NaN, 0, 0, 0]}', b'{"user": "\\ud800"}', b""]
)
def test_bytes_that_are_no_request_are_refused(client, raw):
    answer = client.post("/v1/recommend", content=raw, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422
    assert answer.json()["detail"]


def test_a_megabyte_is_refused_whether_announced_or_not(client):
    large = b'{"user": "ada", "text": "' + b"x" * 1_000_000 + b'"}'
    announced = client.post("/v1/recommend", content=large)
    streamed = client.post("/v1/recommend", content=iter([large[:500_000], large[500_000:]]))
    for answer in (announced, streamed):
        assert answer.status_code == 413
        assert "larger than 262144 bytes" in answer.json()["detail"]


def test_a_key_is_asked_for(recommender):
    with TestClient(create_app(recommender, key="secret")) as client:
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Bearer sécret".encode()}):
            answer = client.get("/v1/pool", headers=headers)
            assert answer.status_code == 401
            assert "Send it as 'Authorization: Bearer KEY'" in answer.json()["detail"]
        assert client.get("/v1/pool", headers={"Authorization": "Bearer secret"}).status_code == 200
        assert client.get("/health").status_code == 200


def test_too_many_requests_are_told_when_to_come_again(recommender):
    with TestClient(create_app(recommender, limits=Limits(per_second=0.5, burst=3))) as client:
        answers = [client.get("/v1/pool") for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert answers[-1].headers["Retry-After"] == "2"


def test_prometheus_can_read_it(client):
    ask(client)
    text = client.get("/metrics").text
    assert 'hare_requests_total{method="POST",route="/v1/recommend",status="200"} 1.0' in text
    assert "hare_items 20.0" in text


def test_what_the_first_start_fixed_stays(tmp_path):
    begun(tmp_path).close()
    with pytest.raises(ConfigError, match=r"was begun with seed = 0\. Use the same, or another database"):
        begun(tmp_path, seed=1)
    (tmp_path / "other").mkdir()
    with pytest.raises(ConfigError, match="needs a pool of items"):
        begun(tmp_path / "other", items=[])


def test_a_full_disk_loses_nothing_and_says_so(recommender, monkeypatch):
    shown = recommender.recommend("ada", QUERY)
    with recommender.database.writing() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
        limited = connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}").scalar()
    assert limited == pages
    failures = 0
    for _ in range(200):
        try:
            recommender.recommend("ada", QUERY)
        except StorageError as error:
            assert "Nothing of this call was recorded" in str(error)
            failures += 1
            break
    assert failures == 1
    before = recommender.hare.t
    with recommender.database.writing() as connection:
        connection.exec_driver_sql("PRAGMA max_page_count = 1000000")
    assert recommender.feedback(shown.round, 1.0)
    assert recommender.hare.t == before + 1


def test_late_calls_are_refused_and_closing_twice_is_harmless(tmp_path):
    recommender = begun(tmp_path)
    recommender.close()
    recommender.close()
    with pytest.raises(StorageError, match="is shutting down"):
        recommender.feedback("0" * 32, 0.5)


def test_items_and_rewards_are_checked_before_anything_is_written(recommender):
    with pytest.raises(DataError, match="must be of finite numbers"):
        recommender.add_items([NewItem("bad", [float("nan")] * DIM)])
    with pytest.raises(DataError, match=r"The reward is 1\.5"):
        recommender.feedback("0" * 32, 1.5)
    with pytest.raises(ConflictError, match="may hold"):
        recommender.config.__dict__["limits"] = Limits(items=20)
        recommender.add_items([NewItem("more", [0.0] * DIM)])


def test_texts_are_embedded(tmp_path):
    from hare_gym.text.corpus import load_corpus

    texts = [skill.body for skill in load_corpus().skills[:12]]
    items = [NewItem(f"skill-{k}", text=text) for k, text in enumerate(texts)]
    recommender = Recommender(f"sqlite:///{tmp_path}/hare.db", ServiceConfig(dim=8, encoder="minilm"), items)
    shown = recommender.recommend("ada", text=texts[7][:400])
    assert shown.items == ["skill-7"]
    assert shown.texts == [texts[7]]
    recommender.close()


@pytest.mark.slow
def test_schemathesis_finds_no_server_error(recommender):
    import schemathesis
    from hypothesis import HealthCheck, given, settings
    from schemathesis.specs.openapi.checks import positive_data_acceptance

    loaded = schemathesis.openapi.from_asgi("/openapi.json", create_app(recommender, "secret", Limits(per_second=0)))
    called = 0
    for found in loaded.get_all_operations():

        @given(case=found.ok().as_strategy())
        @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
        def call(case):
            nonlocal called
            called += 1
            # that a vector has the service's own length is not in the schema
            case.call_and_validate(
                headers={"Authorization": "Bearer secret"}, excluded_checks=[positive_data_acceptance]
            )

        call()
    assert called > 200
    assert recommender.broken is None
