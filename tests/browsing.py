"""Open a page in a real Chromium without a window; as a program, take its picture.

python tests/browsing.py PAGE.html PICTURE.png [--width 1100] [--height 800] [--dark]
"""

import argparse
import base64
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
_FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    "--hide-scrollbars",
)


@contextmanager
def chromium() -> Iterator[Any]:
    """A browser of selenium."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    assert CHROMIUM is not None
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        for flag in (*_FLAGS, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        driver = webdriver.Chrome(options=options, service=Service(DRIVER))
        try:
            yield driver
        finally:
            driver.quit()


def look(browser: Any, width: int, *, dark: bool = False, height: int = 900) -> None:
    """Give the window a size and a theme."""
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 700}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    theme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": theme})


def settle(browser: Any) -> None:
    """Wait until every plot near the window is drawn."""
    browser.set_script_timeout(60)
    browser.execute_async_script(
        "const done = arguments[0];"
        "requestAnimationFrame(() => setTimeout(() => requestAnimationFrame(done), 200));"
    )


def picture(browser: Any) -> bytes:
    """What the window shows, as PNG."""
    return base64.b64decode(browser.execute_cdp_cmd("Page.captureScreenshot", {})["data"])


def main() -> None:
    """Take a page's picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("page", type=Path)
    parser.add_argument("into", type=Path)
    parser.add_argument("--width", type=int, default=1100)
    parser.add_argument("--height", type=int, help="default: the whole page")
    parser.add_argument("--dark", action="store_true")
    given = parser.parse_args()
    with chromium() as browser:
        look(browser, given.width, dark=given.dark)
        browser.get(given.page.absolute().as_uri())
        whole = browser.execute_script("return document.documentElement.scrollHeight")
        look(browser, given.width, dark=given.dark, height=given.height or whole)
        settle(browser)
        given.into.write_bytes(picture(browser))
        for line in browser.get_log("browser"):
            print(line["message"])


if __name__ == "__main__":
    main()
