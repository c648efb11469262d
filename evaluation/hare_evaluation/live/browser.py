"""Visits the page with a headless Chromium: the pictures of the documentation are made so, and the tests look so."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from hare_evaluation.live.start import free_port
from hare_gym.errors import ConfigError, HareError, MissingPackageError

LAPTOP, PHONE = (1366, 768), (390, 844)
START_SECONDS, STEP_SECONDS = 300.0, 60.0
SHOWN, ROUNDS = (0, 5), 15
"""The personas of the pictures: somebody in software and somebody in education."""


class BrowserError(HareError):
    """The page did not start, or did not do what it was asked to."""


def chromium() -> tuple[str, str] | None:
    """Where Chromium and its driver are; None where one is missing."""
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    driver = next(filter(None, map(shutil.which, ("chromedriver", "chromium.chromedriver"))), None)
    return (browser, driver) if browser and driver else None


@contextmanager
def served(store: Path, *options: str, **environment: str) -> Iterator[str]:
    """A server of its own, as ``hare demo`` starts it; its address.

    Raises:
        BrowserError: It did not start; the message has what it said.
    """
    port = free_port("127.0.0.1", 0)
    # NiceGUI serves otherwise where it sees a test of pytest's
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    command = [sys.executable, "-c", "from hare_evaluation.cli import main; main()", "demo", "--no-browser"]
    with tempfile.TemporaryFile("w+") as said:
        server = subprocess.Popen(
            [*command, "--port", str(port), "--store", str(store), *options],
            stdout=said,
            stderr=subprocess.STDOUT,
            env={**kept, "PYTHONUNBUFFERED": "1", **environment},
        )
        try:
            deadline = time.monotonic() + START_SECONDS
            while True:
                said.seek(0)
                words = said.read()
                if "HARE, live:" in words:
                    break
                if server.poll() is not None or time.monotonic() > deadline:
                    raise BrowserError(f"The page did not start: {words[-2000:] or 'it said nothing'}")
                time.sleep(0.1)
            yield f"http://127.0.0.1:{port}/"
        finally:
            server.terminate()
            try:
                server.wait(20.0)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()


class Visitor:
    """A browser of its own, with the page open.

    Args:
        address: The page's.
        size: Of what is seen, in pixels.
        mobile: Whether it is a phone.

    Raises:
        MissingPackageError: selenium is not installed.
        ConfigError: Chromium or its driver is not installed.
    """

    def __init__(self, address: str, size: tuple[int, int] = LAPTOP, mobile: bool = False) -> None:
        try:
            from selenium import webdriver
            from selenium.webdriver.chrome.service import Service
        except ImportError:
            raise MissingPackageError("Pictures of the page need selenium: pip install selenium.") from None
        found = chromium()
        if found is None:
            raise ConfigError(
                "Pictures of the page need Chromium and its driver, for instance: apt-get install chromium "
                "chromium-driver"
            )
        options = webdriver.ChromeOptions()
        options.binary_location = found[0]
        for option in ("--headless=new", "--disable-gpu", "--hide-scrollbars", "--disable-dev-shm-usage"):
            options.add_argument(option)
        if os.geteuid() == 0:
            options.add_argument("--no-sandbox")
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        self.driver: Any = webdriver.Chrome(options=options, service=Service(found[1]))
        self.address, self.size, self.mobile = address, size, mobile
        self._requests: set[str] = set()
        self._console: list[str] = []
        self.resize(size[1])
        self.open()

    def __enter__(self) -> Visitor:
        return self

    def __exit__(self, *_: object) -> None:
        self.driver.quit()

    # -- looking ------------------------------------------------------------------------------------------------

    def all(self, selector: str) -> list[Any]:
        """The elements of a CSS selector."""
        return list(self.driver.find_elements("css selector", selector))

    def text(self, selector: str) -> str:
        """The text of an element, also of what is scrolled away; empty without one."""
        found = self.driver.execute_script(
            "const e = document.querySelector(arguments[0]); return e ? e.textContent : ''", selector
        )
        return str(found).strip()

    def wait(self, selector: str, holds: str = "") -> str:
        """Waits until an element is there whose text matches; its text.

        Raises:
            BrowserError: It did not come.
        """
        deadline = time.monotonic() + STEP_SECONDS
        while time.monotonic() < deadline:
            if self.all(selector) and re.search(holds, self.text(selector)):
                return self.text(selector)
            time.sleep(0.05)
        raise BrowserError(f"No {selector!r} with {holds!r} came; it says {self.text(selector)!r}.")

    @property
    def rounds(self) -> int:
        """How many rounds whoever asks has had."""
        found = re.search(r"round (\d+)", self.text("#card-hare .who"))
        return int(found[1]) if found else 0

    @property
    def entropy(self) -> float:
        """The last entropy of attention in its picture, in nats."""
        return float(self.text("#chart-entropy text[font-weight]"))

    def problems(self) -> list[str]:
        """What the browser's console has complained of so far."""
        self._console += [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] != "INFO"]
        return list(self._console)

    def hosts(self) -> set[str]:
        """Every host that the page has asked for something, web sockets included."""
        for entry in self.driver.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            if message["method"] in ("Network.requestWillBeSent", "Network.webSocketCreated"):
                params = message["params"]
                url = urlsplit(params["request"]["url"] if "request" in params else params["url"])
                if url.scheme not in ("data", "blob"):
                    self._requests.add(url.netloc)
        return set(self._requests)

    def resize(self, height: int) -> None:
        """Sets the height of what is seen."""
        metrics = {"width": self.size[0], "height": height, "deviceScaleFactor": 1, "mobile": self.mobile}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)

    def picture(self, path: Path, whole: bool = False) -> Path:
        """Keeps a picture of what is seen, or of the whole page."""
        if whole:
            self.resize(int(self.driver.execute_script("return document.documentElement.scrollHeight")))
        self.driver.execute_script("window.scrollTo(0, 0)")
        time.sleep(1.0)  # menus and ripples fade
        from PIL import Image

        with Image.open(io.BytesIO(self.driver.get_screenshot_as_png())) as seen:
            seen.convert("RGB").quantize(256, Image.Quantize.FASTOCTREE).save(
                path, optimize=True
            )  # a third of the bytes, and looks the same
        self.resize(self.size[1])
        return path

    # -- doing --------------------------------------------------------------------------------------------------

    def open(self) -> None:
        """Opens the page, or loads it again."""
        self.driver.get(self.address)
        self.wait("#chart-rewards svg")
        self.wait("main[aria-busy=false]")

    def click(self, selector: str) -> None:
        """Clicks an element."""
        self.wait(selector)
        self.driver.execute_script("document.querySelector(arguments[0]).scrollIntoView({block: 'center'})", selector)
        self.all(selector)[0].click()

    def become(self, name: str) -> None:
        """Chooses who asks, by the beginning of their name."""
        self._choose("#who", name)
        self.wait("main[aria-busy=false]")

    def write_with(self, name: str) -> None:
        """Chooses who writes, by the beginning of their name."""
        self._choose("#writer", name)
        self.wait("main[aria-busy=false]")

    def _choose(self, selector: str, name: str) -> None:
        self.click(selector)
        self.wait(".q-menu .q-item")
        time.sleep(0.4)  # the menu opens
        (option,) = (item for item in self.all(".q-menu .q-item") if item.text.startswith(name))
        option.click()
        deadline = time.monotonic() + STEP_SECONDS
        while self.all(".q-menu") and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(0.2)

    def type(self, need: str) -> None:
        """Puts a need into its field."""
        field = self.all('input[aria-label="Your need"]')[0]
        field.clear()
        # as pasted: setting the value spares a key stroke for each character
        self.driver.execute_script(
            "const set = Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, 'value').set;"
            "const most = arguments[0].maxLength > 0 ? arguments[0].maxLength : 1e9;"
            "set.call(arguments[0], arguments[1].slice(0, most));"
            "arguments[0].dispatchEvent(new Event('input', {bubbles: true}))",
            field,
            need,
        )
        time.sleep(0.2)

    def ask(self, need: str) -> str:
        """Asks for something; HARE's text."""
        before = self.rounds
        self.type(need)
        self.click("#ask")
        self.wait("#card-hare .who", f"round {before + 1}$")
        self.wait("main[aria-busy=false]")
        return self.text("#text-hare")

    def play(self, times: int) -> None:
        """Lets the persona ask, so many times five."""
        for _ in range(times):
            before = self.rounds
            self.click("#play")
            self.wait("#card-hare .who", f"round {before + 5}$")
            self.wait("main[aria-busy=false]")

    def rate(self, stars: int, *complaints: str) -> None:
        """Rates HARE's skill."""
        if stars:
            self.click(f"#stars .q-rating__icon-container:nth-child({stars})")
        for complaint in complaints:
            self.click(f"#complaint-{complaint.replace(' ', '-')}")
        time.sleep(0.3)
        self.click("#rate")
        self.wait("#foot-hare", "You rated")
        self.wait("main[aria-busy=false]")


def take_screenshots(folder: Path) -> list[Path]:
    """Plays two personas for 15 rounds each and a person for two, and keeps four pictures.

    Raises:
        MissingPackageError: selenium is not installed.
        ConfigError: Chromium or its driver is not installed.
        BrowserError: The page did not do what it was asked to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    need = "I need help writing tests"
    made = []
    with tempfile.TemporaryDirectory() as scratch, served(Path(scratch) / "demo.sqlite") as address:
        with Visitor(address) as laptop:
            for name, file in (("Software", "live-software.png"), ("Education", "live-education.png")):
                laptop.become(name)
                laptop.play(ROUNDS // 5)
                laptop.ask(need)
                made.append(laptop.picture(folder / file))
            laptop.become("Me")
            laptop.ask(need)
            laptop.rate(2, "too basic")
            laptop.ask(need)
            laptop.click("#stars .q-rating__icon-container:nth-child(4)")
            made.append(laptop.picture(folder / "live-me.png"))
        with Visitor(address, PHONE, mobile=True) as phone:
            phone.become("Education")
            phone.play(1)
            phone.ask(need)
            made.append(phone.picture(folder / "live-phone.png", whole=True))
    return made
