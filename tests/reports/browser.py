"""A headless Chromium for the tests of the page, and what a run of real counts looks like."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    "--disable-dev-shm-usage",
)
SIZES = {"desktop": (1280, 900), "phone": (390, 844)}
NEEDS_BROWSER = pytest.mark.skipif(
    not (shutil.which("chromium") and shutil.which("chromedriver")),
    reason="chromium and chromedriver are not on PATH",
)


class Page:
    """A page in the browser, with the few things that the tests ask of it."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def show(self, path: Path, size: str = "desktop", theme: str = "light") -> None:
        width, height = SIZES[size]
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1}
        metrics["mobile"] = size == "phone"
        wanted = {"prefers-color-scheme": theme, "prefers-reduced-motion": "reduce"}
        features = [{"name": name, "value": value} for name, value in wanted.items()]
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        self.driver.get(path.as_uri())
        self.wait("document.documentElement.dataset.drawn === 'yes'")

    def js(self, expression: str, *arguments: Any) -> Any:
        return self.driver.execute_script(f"return {expression}", *arguments)

    def run(self, statements: str, *arguments: Any) -> None:
        self.driver.execute_script(statements, *arguments)

    def wait(self, expression: str, seconds: float = 30) -> None:
        end = time.monotonic() + seconds
        while not self.js(expression):
            assert time.monotonic() < end, f"never came true: {expression}"
            time.sleep(0.05)

    def complaints(self) -> list[str]:
        """Console errors and warnings since the last call."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def choose(self, control: str, value: str, event: str = "change") -> None:
        self.run(
            "const c = document.getElementById(arguments[0]); c.value = arguments[1];"
            "c.dispatchEvent(new Event(arguments[2]));",
            control,
            value,
            event,
        )


@contextmanager
def opened(profile: Path) -> Iterator[Page]:
    """A browser of its own that keeps what it writes in `profile`."""
    webdriver = pytest.importorskip("selenium.webdriver")
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = webdriver.ChromeService(shutil.which("chromedriver"))
    driver = webdriver.Chrome(options=options, service=service)
    try:
        yield Page(driver)
    finally:
        driver.quit()
