"""The live page in a browser: two personas, a reload, two people at once, bad input, nothing from elsewhere."""

import importlib.util
import json
import os
import urllib.error
import urllib.request

import pytest

from hare_evaluation.live.browser import PHONE, Visitor, chromium, served

NEED = "I need help writing tests"


def needed():
    if chromium() is None:
        return "No Chromium with its driver to visit the page. Install them: apt-get install chromium chromium-driver"
    for package, remedy in (("nicegui", "'hare-gym[demo]'"), ("selenium", "selenium")):
        if importlib.util.find_spec(package) is None:
            return f"The page cannot be visited: pip install {remedy}"
    return ""


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    if needed():
        pytest.fail(needed()) if os.environ.get("CI") == "true" else pytest.skip(needed())
    with served(tmp_path_factory.mktemp("demo") / "demo.sqlite") as address:
        yield address


@pytest.fixture
def visitor(address):
    with Visitor(address) as visitor:
        yield visitor
        assert visitor.problems() == [] and visitor.hosts() == {address.split("/")[2]}


def test_a_person_asks_and_rates(visitor):
    assert "nothing leaves this machine" in visitor.text(".local")
    assert visitor.ask(NEED) and visitor.rounds == 1
    before = {name: visitor.text(f"#chart-{name}") for name in ("state", "attention", "entropy", "rewards")}
    visitor.rate(2, "too basic")
    assert "★★☆☆☆" in visitor.text("#foot-hare") and "too basic" in visitor.text("#foot-hare")
    assert all(visitor.text(f"#chart-{name}") != text for name, text in before.items())
    visitor.click("#stars-rag .q-rating__icon-container:nth-child(4)")
    assert "★★★★☆" in visitor.wait("#foot-rag", "You rated")
    title, shown = visitor.text("#title-hare"), visitor.text("#chart-rewards")
    visitor.open()
    assert visitor.text("#title-hare") == title and visitor.text("#chart-rewards") == shown
    for need, answer in (
        ("", "1 to 500 characters, not 0"),
        ("   ", "1 to 500 characters, not 0"),
        ("word " * 200_000, "1 to 500 characters, not 3,999: say in a sentence"),
    ):
        visitor.type(need)
        visitor.click("#ask")
        visitor.wait("#message", answer)
        visitor.wait("main[aria-busy=false]")
    assert visitor.rounds == 1
    visitor.ask("<img src=x onerror=alert(1)> **bold**")
    visitor.click("#rate")
    assert "Give one to five stars" in visitor.wait("#message", "stars")
    assert visitor.rounds == 2 and not visitor.all("#card-hare img")


def test_who_is_not_meant_gets_nothing(address):
    with urllib.request.urlopen(address, timeout=30) as answer:
        policy = answer.headers["content-security-policy"]
        cookie = answer.headers["set-cookie"]
        page = answer.read().decode()
    assert "default-src 'self'" in policy and "connect-src 'self'" in policy and "https:" not in policy
    assert "httponly" in cookie and "samesite=lax" in cookie and "https://" not in page
    for headers, status in (({"Host": "elsewhere.example"}, 421), ({"Content-Length": "99999999999"}, 413)):
        request = urllib.request.Request(address, headers=headers)
        with pytest.raises(urllib.error.HTTPError) as error:
            urllib.request.urlopen(request, timeout=30)
        assert error.value.code == status


@pytest.mark.slow
def test_two_personas_fifteen_rounds_each(visitor):
    """Different skills for one need, entropy falls, and a reload loses nothing."""
    skills, shown = {}, {}
    for name in ("Software", "Education"):
        visitor.become(name)
        first = visitor.entropy
        visitor.play(3)
        assert visitor.rounds == 15 and visitor.entropy < first - 0.1
        skills[name] = visitor.ask(NEED), visitor.text("#title-hare"), visitor.text("#text-rag")
        shown[name] = [visitor.text(f"#chart-{chart}") for chart in ("state", "entropy", "rewards")]
    (software, title, rag), (education, other, same) = skills.values()
    assert software != education and title != other and rag == same
    visitor.open()
    assert visitor.rounds == 16 and visitor.text("#text-hare") == education
    assert [visitor.text(f"#chart-{chart}") for chart in ("state", "entropy", "rewards")] == shown["Education"]
    visitor.become("Software")
    assert visitor.rounds == 16 and visitor.text("#text-hare") == software
    # the other's rounds have taught HARE about everybody, so that its beliefs of this one have moved a little
    assert [visitor.text(f"#chart-{chart}") for chart in ("entropy", "rewards")] == shown["Software"][1:]


@pytest.mark.slow
def test_two_people_at_once(address):
    with Visitor(address) as one, Visitor(address, PHONE, mobile=True) as two:
        one.ask(NEED)
        two.ask("I need help making a plan")
        one.rate(1, "wrong topic", "too long")
        assert two.rounds == 1 and "You rated" not in two.text("#foot-hare")
        two.become("Design")
        two.play(1)
        assert one.rounds == 1 and one.text("#who input") == ""
        one.open()
        assert one.rounds == 1 and "wrong topic" in one.text("#foot-hare")
        wide = two.driver.execute_script("return document.documentElement.scrollWidth")
        assert wide <= PHONE[0] and one.problems() == two.problems() == []


@pytest.mark.slow
def test_a_rating_that_comes_again(visitor):
    visitor.ask(NEED)
    first = visitor.driver.current_window_handle
    visitor.driver.switch_to.new_window("tab")
    visitor.open()
    visitor.rate(5)
    visitor.driver.switch_to.window(first)
    visitor.click("#stars .q-rating__icon-container:nth-child(1)")
    visitor.click("#rate")
    assert "Round 1 has been rated already (5 stars)" in visitor.wait("#message", "already")
    assert "★★★★★" in visitor.text("#foot-hare")


@pytest.mark.slow
def test_switches_and_files(visitor, tmp_path):
    from selenium.webdriver.support.ui import WebDriverWait

    folder = {"behavior": "allow", "downloadPath": str(tmp_path)}
    visitor.driver.execute_cdp_cmd("Page.setDownloadBehavior", folder)
    visitor.become("Science")
    visitor.play(1)
    state = visitor.text("#chart-state")
    visitor.driver.execute_script("document.querySelector('#beta').scrollIntoView()")
    attention = visitor.text("#chart-attention")
    visitor.all("#beta .q-slider__focus-ring, #beta")[0].click()
    # the page is busy only once it has heard of the click
    WebDriverWait(visitor.driver, 30).until(lambda _: visitor.text("#chart-attention") != attention)
    assert visitor.text("#chart-state") == state
    for button, name in (("#save", "hare-state.npz"), ("#export", "hare-session.json")):
        visitor.click(button)
        visitor.wait("main[aria-busy=false]")
        for _ in range(200):
            if (tmp_path / name).is_file() and not list(tmp_path.glob("*.crdownload")):
                break
            visitor.driver.implicitly_wait(0)
            visitor.driver.execute_async_script("setTimeout(arguments[0], 100)")
        assert (tmp_path / name).is_file()
    assert len(json.loads((tmp_path / "hare-session.json").read_text())["rounds"]) == 5
    visitor.click("#forget")
    assert "Forgotten: 5 rounds" in visitor.wait("#message", "Forgotten")
    assert visitor.rounds == 0 and visitor.text("#chart-state") != state
    upload = visitor.all("input[type=file]")[0]
    (tmp_path / "bad.npz").write_bytes(b"<html>" * 1000)
    upload.send_keys(str(tmp_path / "bad.npz"))
    assert "no state that this page can load" in visitor.wait("#message", "no state")
    visitor.all("input[type=file]")[0].send_keys(str(tmp_path / "hare-state.npz"))
    visitor.wait("#message", "The state is loaded")
    assert visitor.text("#chart-state") == state


@pytest.mark.slow
def test_a_language_model_writes_where_one_can_see_it(visitor):
    visitor.write_with("tiny")
    visitor.type(NEED)
    visitor.click("#ask")
    begun = visitor.wait("#stream-hare", "description")
    visitor.wait("#card-hare .who", "round 1$")
    assert begun.startswith("---") and visitor.text("#title-hare")
    visitor.write_with("Claude")
    assert "are sent to Claude" in visitor.text(".local")


@pytest.mark.slow
def test_a_restart_loses_nothing(address, tmp_path):
    with served(tmp_path / "demo.sqlite") as first, Visitor(first) as visitor:
        visitor.become("Marketing")
        visitor.play(1)
        shown = visitor.text("#text-hare"), visitor.text("#chart-state"), visitor.text("#chart-rewards")
        cookies = visitor.driver.get_cookies()
    with served(tmp_path / "demo.sqlite") as second, Visitor(second) as visitor:
        assert visitor.rounds == 0
        visitor.driver.delete_all_cookies()
        for cookie in cookies:
            visitor.driver.add_cookie(cookie)
        visitor.open()
        assert visitor.rounds == 5
        assert (visitor.text("#text-hare"), visitor.text("#chart-state"), visitor.text("#chart-rewards")) == shown
