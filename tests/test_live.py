"""The live demonstration without a page: asking, rating, forgetting, files, the database, and the pictures."""

import io
import json
import pickle
import sqlite3
import stat
import threading
import xml.etree.ElementTree as ET
import zipfile
from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

from hare_agents.decoders.claude import ClaudeError
from hare_agents.hare import HARE
from hare_evaluation import demo
from hare_evaluation.live import charts, start, states
from hare_evaluation.live.explain import Explanation, leanings
from hare_evaluation.live.ratings import COMPLAINTS, GAIN, STEP, Rating, RatingError, direction, taught
from hare_evaluation.live.session import DemoError, LiveSession
from hare_evaluation.live.store import Sessions
from hare_evaluation.live.world import WORD_LIMITS, World
from hare_gym.errors import ConfigError, DataError, MissingPackageError, UnknownNameError
from hare_gym.text.measure import measures
from hare_gym.text.skills import validate
from hare_gym.text.space import LEVEL, RADIUS, SEMANTIC

NEED = "I need help writing tests"


@pytest.fixture(scope="module")
def world():
    return World(population=4, rounds=10, cache=False)


@pytest.fixture
def session(world):
    return LiveSession(world)


@pytest.fixture(scope="module")
def pair(world):
    """Two personas, 15 rounds each, in one session."""
    session = LiveSession(world)
    for persona in (0, 5):
        session.become(persona)
        session.play(15)
    return session


def same(a, b):
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


def exported(session):
    return json.loads(json.dumps(session.export(), allow_nan=False))


# -- ratings --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("stars", "reward"), [(1, 0.0), (2, 0.25), (3, 0.5), (4, 0.75), (5, 1.0)])
def test_stars_are_rewards(stars, reward):
    y = np.linspace(-0.2, 0.2, 17)
    ((content, taught_reward),) = taught(Rating(stars), y)
    assert content is y and taught_reward == reward


def test_a_complaint_teaches_a_step_towards_what_is_wanted_and_one_away_from_it():
    y = np.linspace(-0.2, 0.2, 17)
    (_, r), (up, better), (down, worse) = taught(Rating(3, ("too basic",)), y)
    assert r == 0.5 and better == r + GAIN and worse == r - GAIN
    assert up[LEVEL] == y[LEVEL] + STEP and down[LEVEL] == y[LEVEL] - STEP
    assert np.array_equal(np.delete(up, LEVEL), np.delete(y, LEVEL))
    assert measures(up).level > measures(y).level > measures(down).level
    deep = taught(Rating(3, ("too deep",)), y)
    assert np.array_equal(deep[1][0], down) and np.array_equal(deep[2][0], up)


def test_a_complaint_alone_counts_two_stars_and_rewards_stay_in_range():
    y = np.full(17, 0.1)
    assert [r for _, r in taught(Rating(complaints=("too deep",)), y)] == pytest.approx([0.25, 0.45, 0.05])
    assert [r for _, r in taught(Rating(5, ("too deep",)), y)] == pytest.approx([1.0, 1.0, 0.8])
    assert [r for _, r in taught(Rating(1, ("too deep",)), y)] == pytest.approx([0.0, 0.2, 0.0])


def test_the_wrong_topic_points_away_from_what_the_text_was_about():
    y = np.linspace(-0.2, 0.2, 17)
    v = direction("wrong topic", y)
    assert np.linalg.norm(v) == pytest.approx(1.0) and v @ y < 0.0 and not v[SEMANTIC.stop :].any()
    assert direction("wrong topic", np.zeros(17)) is None
    assert direction("too long", y) is None and len(taught(Rating(3, ("too long",)), y)) == 1


@pytest.mark.parametrize(
    ("stars", "complaints", "text"),
    [
        (0, (), "Give one to five stars, or say what is wrong"),
        (6, (), "Stars are 1 to 5, not '6'"),
        (-1, (), "Stars are 1 to 5"),
        (True, (), "Stars are 1 to 5, not 'True'"),
        ("<b>", (), "Stars are 1 to 5, not '<b>'"),
        (3, ("too loud",), "There is no complaint 'too loud'. The complaints are: too basic"),
        (3, ("too basic", "too deep"), "too basic and too deep at once"),
    ],
)
def test_a_rating_that_cannot_be_meant(stars, complaints, text):
    with pytest.raises(RatingError, match=text):
        Rating(stars, complaints)


# -- rounds ---------------------------------------------------------------------------------------------------------


def test_two_personas_get_different_skills_for_one_need_and_entropy_falls(pair):
    texts = []
    for persona in (0, 5):
        pair.become(persona)
        told = pair.explain()
        assert len(told.entropies) == 16 and told.entropies[-1] < told.entropies[0]
        assert told.uncertainty < 0.9
        texts.append(pair.ask(NEED))
        pair.turns.pop()  # the fixture stays as it was
    assert texts[0].hare != texts[1].hare and texts[0].rag == texts[1].rag
    assert not validate(texts[0].hare) and not validate(texts[1].hare)


def test_a_persona_rates_as_the_environment_would(pair, world):
    turn = pair.turns[3]
    x = world.measurer.query(turn.need)
    assert turn.expected["HARE"] == world.expected_reward(0, x, turn.hare, turn.need)[0]
    parts = [turn.parts[name] for name in ("relevance", "domain", "level", "specificity", "style")]
    weights = (0.25, 0.3, 0.15, 0.15, 0.15)
    mean = turn.parts["validity"] * turn.parts["guard"] * np.prod(np.power(parts, weights))
    assert turn.expected["HARE"] == pytest.approx(mean)
    assert 0.0 <= turn.taught[0][1] <= 1.0 and turn.stars == 1 + round(4 * turn.taught[0][1])
    rewards = world.catalogue_rewards(0, x)
    assert turn.expected["best item"] == rewards.max() > turn.expected["random item"] == rewards.mean()
    assert {turn.writer for turn in pair.turns} == {"composer"}
    assert all("RAG with profile" in turn.expected for turn in pair.turns)


def test_hare_learns_from_a_person_and_shows_it(session):
    first = session.ask(NEED)
    assert not first.rated and session.explain().rewards == {}
    session.rate(first.number, Rating(2, ("too basic",)))
    told = session.explain()
    assert first.rated and len(first.taught) == 3 and first.stars == 2
    deep = next(each for each in told.leanings if each.name == "deep")
    assert deep.mean > 0.0 and told.rewards == {"HARE": [0.25]}
    assert len(told.entropies) == 2 and told.uncertainty < 1.0
    assert not np.array_equal(told.attention, told.attention_before)
    assert session.ask(NEED).asked_for[LEVEL] > first.asked_for[LEVEL]


def test_too_long_makes_the_next_one_shorter(session):
    lengths = []
    for _ in range(3):
        turn = session.ask(NEED)
        lengths.append(len(turn.hare.split()))
        session.rate(turn.number, Rating(3, ("too long",)))
    assert session.settings.words == WORD_LIMITS[3] and lengths[-1] < lengths[0]
    session.settings = replace(session.settings, words=WORD_LIMITS[-1])
    session.rate(session.ask(NEED).number, Rating(3, ("too long",)))
    assert session.settings.words == WORD_LIMITS[-1]


def test_a_round_counts_once(session):
    turn = session.ask(NEED)
    session.rate(turn.number, Rating(4))
    before = session.hare.state()
    with pytest.raises(DemoError, match=r"Round 1 has been rated already \(4 stars\): a round counts once"):
        session.rate(turn.number, Rating(1))
    with pytest.raises(DemoError, match="There is no round 7 in this session"):
        session.rate(7, Rating(1))
    session.rate_rag(turn.number, 2)
    with pytest.raises(DemoError, match="Retrieval's skill of round 1 has been rated already"):
        session.rate_rag(turn.number, 2)
    assert same(session.hare.state(), before) and session.explain().rewards == {"HARE": [0.75], "RAG": [0.25]}
    session.become(2)
    with pytest.raises(DemoError, match="has been rated already"):
        session.rate(session.ask(NEED).number, Rating(5))


@pytest.mark.parametrize(
    ("need", "text"),
    [
        ("", "1 to 500 characters, not 0"),
        (" \n\t\0 ", "1 to 500 characters, not 0"),
        ("x" * 501, "not 501"),
        ("x" * 1_000_000, "1 to 500 characters, not 1,000,000: say in a sentence"),
        (7, "A need is a text, not int"),
    ],
)
def test_a_need_that_is_none(session, need, text):
    before = session.hare.state()
    with pytest.raises(DemoError, match=text):
        session.ask(need)
    assert not session.turns and same(session.hare.state(), before)


def test_markup_is_a_need_like_another(session):
    turn = session.ask("<script>alert(1)</script> ' OR 1=1; -- \u202e\ud800")
    session.rate(turn.number, Rating(3))
    assert turn.need.startswith("<script>alert(1)</script>") and "alert(1)" not in turn.hare
    json.dumps(session.export()).encode()


def test_who_is_not_there_cannot_ask(session):
    with pytest.raises(DemoError, match="There is no persona 99: they are 0 to 7"):
        session.become(99)
    with pytest.raises(DemoError, match="Choose a persona first"):
        session.play()
    with pytest.raises(UnknownNameError, match=r"Unknown writer 'compser'\. Did you mean 'composer'"):
        session.write_with("compser")


def test_a_writer_that_is_missing_says_what_to_do(session, monkeypatch):
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
    session.write_with("claude")
    with pytest.raises(ConfigError, match=r"'claude' cannot write here: (set ANTHROPIC_API_KEY|pip install)"):
        session.ask(NEED)
    assert not session.turns
    session.write_with("composer")
    assert session.ask(NEED).number == 1


@pytest.mark.slow
def test_a_service_that_does_not_answer_changes_nothing(session, monkeypatch):
    pytest.importorskip("anthropic", reason="pip install 'hare-gym[claude]'")
    monkeypatch.setenv("ANTHROPIC_API_KEY", "not-a-key")
    monkeypatch.setenv("ANTHROPIC_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(session.world, "_decoders", {})
    before = session.hare.state()
    session.write_with("claude")
    with pytest.raises(ClaudeError, match="The service cannot be reached"):
        session.ask(NEED, lambda name, text: None)
    assert not session.turns and same(session.hare.state(), before)


@pytest.mark.slow
def test_a_language_model_is_seen_while_it_writes(session):
    heard = {"hare": [], "rag": []}
    session.write_with("tiny")
    turn = session.ask(NEED, lambda name, text: heard[name].append(text))
    assert len(heard["hare"]) > 50 and heard["hare"][-1] == turn.hare and heard["rag"][-1] == turn.rag
    assert heard["hare"][20].startswith("---\nname:") and len(heard["hare"][20]) < len(turn.hare)
    session.rate(turn.number, Rating(5))


# -- exploring, forgetting ------------------------------------------------------------------------------------------


def test_exploration_is_switched_and_nothing_forgotten(session, world):
    session.become(1)
    session.play(2)
    x, user = world.measurer.query(NEED), session.user
    before, state = session.hare.attention(x, user)[1], session.hare.user_state(user)
    session.explore(1.0, 0.0)
    assert not np.allclose(session.hare.attention(x, user)[1], before)
    assert all(np.array_equal(a, b) for a, b in zip(session.hare.user_state(user), state, strict=True))
    session.explore(0.0, float(world.knobs["posterior_bonus"]))
    assert np.allclose(session.hare.attention(x, user)[1], before)
    with pytest.raises(DemoError, match="alpha is a number from 0 to 5, not 9"):
        session.explore(9.0, 1.0)
    with pytest.raises(DemoError, match="beta is a number from 0 to 5, not nan"):
        session.explore(1.0, float("nan"))


def test_forgetting_is_exact(world):
    both, alone = LiveSession(world), LiveSession(world)
    for session in (both, alone):
        session.become(3)
        session.play(2)
    both.become(-1)
    both.rate(both.ask(NEED).number, Rating(1, ("wrong topic", "too deep")))
    assert not same(both.hare.state(), alone.hare.state())
    assert both.forget() == 1 and same(both.hare.state(), alone.hare.state())
    assert [turn.persona for turn in both.turns] == [3, 3] and both.ask(NEED).number == 4


# -- sharing nothing ------------------------------------------------------------------------------------------------


def test_people_at_once_share_nothing(world):
    def played(session, persona):
        session.become(persona)
        session.play(2)
        return session.export()["rounds"]

    alone = [played(LiveSession(world), persona) for persona in range(3)]
    together = [None] * 3
    base = {name: array.copy() for name, array in world.base.items()}

    def run(k):
        together[k] = played(LiveSession(world), k)

    threads = [threading.Thread(target=run, args=(k,)) for k in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert together == alone and same(world.base, base)


def test_one_person_at_once_in_two_tabs_counts_once(session):
    turn = session.ask(NEED)
    refused = []

    def rate():
        try:
            session.rate(turn.number, Rating(5))
        except DemoError as error:
            refused.append(str(error))

    threads = [threading.Thread(target=rate) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(refused) == 5 and session.hare.t == session.world.hare(0.0, 1.0).t + 1


def test_nobody_waits_for_a_slow_writer(session, monkeypatch):
    begun, go, told = threading.Event(), threading.Event(), []
    write = session.world.write

    def slow(*arguments):
        begun.set()
        assert go.wait(60.0)
        return write(*arguments)

    monkeypatch.setattr(session.world, "write", slow)
    asking = threading.Thread(target=session.ask, args=(NEED,))
    asking.start()
    assert begun.wait(60.0)
    looking = threading.Thread(target=lambda: told.append(session.explain()))
    looking.start()
    looking.join(30.0)
    go.set()
    asking.join()
    assert told and [turn.number for turn in session.turns] == [1]


# -- the database ---------------------------------------------------------------------------------------------------


def test_a_restart_loses_nothing(world, tmp_path):
    path = tmp_path / "data" / "demo.sqlite"
    session = Sessions(world, path).get("somebody")
    session.become(2)
    session.play(3)
    session.become(-1)
    session.rate(session.ask(NEED).number, Rating(2, ("too deep", "too long")))
    session.rate_rag(session.turns[-1].number, 4)
    session.explore(0.5, 3.0)
    session.ask("something unrated")
    again = Sessions(world, path).get("somebody")
    assert again is not session and exported(again) == exported(session)
    assert same(again.hare.state(), session.hare.state())
    assert again.hare.rng.bit_generator.state == session.hare.rng.bit_generator.state
    assert again.ask(NEED).hare == session.ask(NEED).hare
    assert Sessions(world, path).get("somebody else").turns == []
    again.forget()
    last = Sessions(world, path).get("somebody")
    assert [turn.persona for turn in last.turns] == [2, 2, 2] and last.ask(NEED).number == 7


def test_the_file_tells_nobodys_id_and_is_its_owners(world, tmp_path):
    path = tmp_path / "demo.sqlite"
    Sessions(world, path).get("a-secret-id").ask(NEED)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert not any(b"a-secret-id" in each.read_bytes() for each in tmp_path.iterdir())
    assert Sessions(world, path).secret == Sessions(world, path).secret


def test_the_server_forgets_no_session_that_it_has_no_room_for(world, tmp_path, monkeypatch):
    monkeypatch.setattr("hare_evaluation.live.store.IN_MEMORY", 1)
    sessions = Sessions(world, tmp_path / "demo.sqlite")
    first = sessions.get("a")
    first.ask(NEED)
    sessions.get("b")
    assert sessions.get("a") is not first and exported(sessions.get("a")) == exported(first)


def test_a_file_that_is_no_database(world, tmp_path):
    path = tmp_path / "demo.sqlite"
    path.write_bytes(b"not a database, but long enough to be taken for one" * 100)
    with pytest.raises(DataError, match=r"cannot hold sessions .*name another file"):
        Sessions(world, path)
    other = tmp_path / "other.sqlite"
    Sessions(world, other)
    with sqlite3.connect(other) as connection:
        connection.execute("UPDATE about SET value = '99' WHERE name = 'schema'")
    with pytest.raises(DataError, match="is of version 99 of the demonstration"):
        Sessions(world, other)


# -- files ----------------------------------------------------------------------------------------------------------


def test_a_state_is_saved_and_loaded(session, world, tmp_path):
    session.become(4)
    session.play(2)
    data = session.save()
    other = Sessions(world, tmp_path / "demo.sqlite").get("x")
    other.ask(NEED)
    other.load(data)
    other.become(4)
    assert same(other.hare.state(), session.hare.state()) and not other.turns
    assert other.ask(NEED).hare == session.ask(NEED).hare
    again = Sessions(world, tmp_path / "demo.sqlite").get("x")
    assert same(again.hare.state(), other.hare.state()) and exported(again) == exported(other)
    other.forget()
    assert same(other.hare.state(), world.hare(0.0, 1.968).state())


def test_an_engineer_can_load_it_too(session, tmp_path):
    session.become(4)
    session.play(1)
    (tmp_path / "hare-state.npz").write_bytes(session.save())
    hare = HARE.load(tmp_path / "hare-state.npz")
    assert np.array_equal(hare.user_state(session.user)[0], session.hare.user_state(session.user)[0])


def rewritten(data, **changes):
    with np.load(io.BytesIO(data)) as file:
        arrays = {name: file[name] for name in file.files}
    about = json.loads(arrays["about"].tobytes())
    for name, value in changes.items():
        if name == "about":
            about.update(value)
        elif value is None:
            del arrays[name.replace("__", ".")]
        else:
            arrays[name.replace("__", ".")] = value
    arrays["about"] = np.frombuffer(json.dumps(about).encode(), dtype=np.uint8)
    out = io.BytesIO()
    np.savez(out, **arrays)
    return out.getvalue()


def bomb():
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.npy", b"\0" * (states.MOST_BYTES + 1))
    return out.getvalue()


def pickled():
    out = io.BytesIO()
    np.savez(out, about=np.array([object()], dtype=object))
    return out.getvalue()


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda data: b"", "choose a file that 'save my state' gave"),
        (lambda data: pickle.dumps({"a": 1}), "choose a file"),
        (lambda data: data[: len(data) // 2], "choose a file"),
        (lambda data: pickled(), "choose a file"),
        (lambda data: bomb(), r"unpacked it would have 67,10\d,\d+ bytes"),
        (lambda data: b"x" * (states.MOST_BYTES + 1), "at most 67,108,864 are read"),
        (lambda data: rewritten(data, pool__items=np.zeros((3, 17))), "of another catalogue"),
        (lambda data: rewritten(data, about={"format": 1}), "another version of HARE .format 1"),
        (lambda data: rewritten(data, about={"config": {"memory": 10**12}}), "another version of HARE"),
        (lambda data: rewritten(data, about={"rng": {"a": 1}}), "choose a file"),
        (lambda data: rewritten(data, core__H=None), "This page|no array 'H'"),
        (lambda data: rewritten(data, alpha=np.zeros(99)), ""),
        (lambda data: rewritten(data, core__H=np.full((3, 3), np.nan)), "This is no state"),
    ],
)
def test_a_strangers_file(session, make, text):
    session.become(0)
    session.play(1)
    before, rounds = session.hare.state(), session.export()
    data = make(session.save())
    if text:
        with pytest.raises(DataError, match=text):
            session.load(data)
        assert same(session.hare.state(), before) and session.export() == rounds
    else:
        session.load(data)  # the exploration weights are the session's own


def test_the_export_is_json_with_every_round(pair):
    told = exported(pair)
    assert told["format"] == "hare-demo-1" and len(told["rounds"]) == 30 == len(pair.turns)
    assert told["rounds"][0]["hare"].startswith("---\nname:") and told["rounds"][0]["taught"]


# -- what is shown --------------------------------------------------------------------------------------------------


def test_leanings_are_rewards_along_named_directions(session, world):
    session.rate(session.ask(NEED).number, Rating(1, ("too deep",)))
    u, Sigma = session.hare.user_state(session.user)
    told = {each.name: each for each in leanings(session.hare, session.user)}
    assert len(told) == 14 and told["deep"].mean == pytest.approx(u[LEVEL] / RADIUS)
    width = 1.96 * session.hare.gate.s * np.sqrt(Sigma[LEVEL, LEVEL]) / RADIUS
    assert told["deep"].width == pytest.approx(width)
    assert sum(each.mean for each in told.values() if each.group == "domain") == pytest.approx(0.0, abs=1e-12)


def pictures(told):
    return [
        ET.fromstring(draw(told)) for draw in (charts.user_state, charts.attention, charts.entropies, charts.rewards)
    ]


def words(picture):
    return ["".join(text.itertext()) for text in picture.iter() if text.tag.endswith("text")]


def test_the_pictures_hold_the_numbers(pair):
    pair.become(0)
    told = pair.explain()
    state, attention, entropy, rewards = pictures(told)
    assert {each.name for each in told.leanings} <= set(words(state))
    best = int(np.argmax(told.attention))
    assert told.clusters[best] in words(attention) and f"{told.attention[best]:.0%}" in words(attention)
    assert f"{told.entropies[-1]:.2f}" in words(entropy)
    mean = np.mean(told.rewards["HARE"])
    assert f"{mean:.2f} HARE" in words(rewards) and any(text.endswith("RAG with profile") for text in words(rewards))


def test_the_pictures_of_nothing(session):
    *_, rewards = pictures(session.explain())
    assert "rate a skill to begin" in words(rewards)


def test_names_in_pictures_are_escaped(session):
    told = session.explain()
    evil = "<script>alert('x')</script>\"&"
    made = Explanation(**{**vars(told), "clusters": [evil] * len(told.clusters)})
    assert "<script" not in charts.attention(made) and evil in words(ET.fromstring(charts.attention(made)))


def test_ends_of_lines_do_not_meet(pair):
    told = pair.explain()
    close = {name: [0.5 + 0.001 * k] * 4 for k, name in enumerate(told.rewards)}
    picture = ET.fromstring(charts.rewards(Explanation(**{**vars(told), "rewards": close})))
    heights = sorted(
        float(text.get("y"))
        for text in picture.iter()
        if text.tag.endswith("text") and text.text[:3] == "0.5" and " " in text.text
    )
    assert len(heights) == 5 and np.diff(heights).min() >= 12.9


def test_clusters_have_names_of_their_own(world):
    assert len(set(world.clusters)) == len(world.clusters) == 16


# -- starting -------------------------------------------------------------------------------------------------------


def test_what_it_learned_before_is_kept_for_the_next_start(tmp_path, monkeypatch):
    monkeypatch.setenv("HARE_CACHE", str(tmp_path))
    first = World(population=2, rounds=3)
    (kept,) = (tmp_path / "demo").iterdir()
    stamp = kept.stat().st_mtime_ns
    again = World(population=2, rounds=3)
    assert kept.stat().st_mtime_ns == stamp
    assert same(first.base, again.base) and first.base_rng == again.base_rng
    kept.write_bytes(b"cut off")
    assert same(World(population=2, rounds=3).base, first.base) and kept.stat().st_size > 10_000


def test_one_word_starts_it(monkeypatch, tmp_path):
    calls = []
    monkeypatch.setattr(start, "start", lambda *arguments: calls.append(arguments))
    for words_ in (["--port", "0", "--no-browser"], ["live", "--port", "0", "--no-browser"]):
        result = CliRunner().invoke(demo.app, words_)
        assert result.exit_code == 0, result.output
    assert calls == [(0, "127.0.0.1", False, None)] * 2


def test_without_nicegui_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(start, "find_spec", lambda name: None)
    with pytest.raises(MissingPackageError, match=r"pip install 'hare-gym\[demo\]'"):
        start.start(0, "127.0.0.1", False, None)


def test_a_port_that_is_taken():
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"Port {port} of 127.0.0.1 cannot be had .* --port 0"):
            start.free_port("127.0.0.1", port)
    assert start.free_port("127.0.0.1", 0) > 0 and len(COMPLAINTS) == 4
