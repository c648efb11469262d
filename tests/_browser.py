"""Chromium for tests: skipped where it is missing, and failed in the continuous integration."""

import os
import shutil

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")


def missing(reason):
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


def open_browser(profile):
    """A headless Chromium that is steered by Selenium; its console is kept."""
    if CHROMIUM is None or DRIVER is None:
        missing(
            "No Chromium with its driver. Install them, for instance with: apt-get install chromium chromium-driver"
        )
    try:
        from selenium import webdriver
    except ImportError:
        missing('Selenium is not installed: pip install ".[test]"')
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    arguments = "--headless=new --disable-gpu --no-first-run --disable-background-networking --window-size=1280,1000"
    for argument in [*arguments.split(), f"--user-data-dir={profile}"]:
        options.add_argument(argument)
    if os.geteuid() == 0:
        options.add_argument("--no-sandbox")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    return webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))


def complaints(driver):
    """What the page has written to the console since it was last asked; entries reach the driver some time later."""
    from selenium.webdriver.support.ui import WebDriverWait

    driver.execute_script("console.info('all heard')")
    heard = []

    def all_heard(_):
        heard.extend(driver.get_log("browser"))
        return any("all heard" in entry["message"] for entry in heard)

    WebDriverWait(driver, 30).until(all_heard)
    return [entry for entry in heard if "all heard" not in entry["message"]]


def resize(driver, width, height=900, dark=False):
    """The viewport of a device, and whether it prefers dark pages."""
    driver.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600},
    )
    features = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


# Every element with text of its own whose contrast with what lies behind it is below WCAG AA.
LOW_CONTRAST = """
const linear = (c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
const luminance = ([r, g, b]) => [r, g, b].map((c) => linear(c / 255))
  .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
const colour = (text) => (text.match(/[\\d.]+/g) ?? []).map(Number);
const behind = (element) => {
  for (let e = element; e; e = e.parentElement) {
    const found = colour(getComputedStyle(e).backgroundColor);
    if (found.length === 3 || found[3] > 0) return found;
  }
  return [255, 255, 255];
};
const found = [];
let seen = 0;
for (const element of document.body.querySelectorAll("*")) {
  const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
  if (!own || !element.getClientRects().length || ["TITLE", "NOSCRIPT"].includes(element.tagName)) continue;
  seen += 1;
  const style = getComputedStyle(element);
  const ink = colour(element instanceof SVGElement ? style.fill : style.color);
  const [a, b] = [luminance(ink), luminance(behind(element))].sort((x, y) => y - x);
  const large = parseFloat(style.fontSize) >= 24 || (parseFloat(style.fontSize) >= 18.66 && style.fontWeight >= 700);
  const least = large ? 3 : 4.5;
  if ((a + 0.05) / (b + 0.05) < least) found.push(`${element.tagName} ${element.textContent.slice(0, 40)}`);
}
return [seen, found];
"""
