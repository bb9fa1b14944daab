"""Chromium on pages from disk, with the network off, and what tests ask of it."""

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
DRIVER = shutil.which("chromedriver")
FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--no-first-run", "--hide-scrollbars",
    "--host-resolver-rules=MAP * ~NOTFOUND",
)  # fmt: skip
AXE = Path(__file__).parent / "vendor" / "axe.min.js"
BARRIERS = """
    const done = arguments[arguments.length - 1];
    const rules = { type: "tag", values: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"] };
    axe.run(document, { runOnly: rules, resultTypes: ["violations"] }).then(({ violations }) => done(violations
      .filter(({ impact }) => impact === "serious" || impact === "critical")
      .map(({ id, nodes }) => `${id}, ${nodes.length} times, as ${nodes[0].html.slice(0, 160)}`)));
"""
UNDRAWN = """
    const marks = ".cartesianlayer :is(.trace path, .hm image), .pielayer path, .polarlayer .trace path";
    return [...document.querySelectorAll(".rodpo-plot")].filter((plot) => !plot.querySelector(marks)).length;
"""


class Browser:
    """Chromium opened on a site from disk."""

    def __init__(self, profile: Path) -> None:
        from selenium import webdriver
        from selenium.webdriver.chrome.service import Service

        options = webdriver.ChromeOptions()
        options.binary_location = CHROMIUM
        for flag in (*FLAGS, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        self.driver = webdriver.Chrome(options=options, service=Service(DRIVER))
        self.run = self.driver.execute_script

    def open(self, page: Path, query: str = "", width: int = 1280, height: int = 900) -> None:
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        for log in ("browser", "performance"):
            self.driver.get_log(log)
        self.driver.get(page.resolve().as_uri() + query)

    def wait(self, script: str, is_done: Callable[[Any], bool], seconds: float = 15) -> Any:
        """Poll a script until its value is as wished; the last value either way."""
        end = time.monotonic() + seconds
        while not is_done(value := self.run(script)) and time.monotonic() < end:
            time.sleep(0.05)
        return value

    def click(self, selector: str) -> None:
        self.run("document.querySelector(arguments[0]).click()", selector)

    def draw_all(self) -> int:
        """Bring each figure near, as a reader does; how many stay without marks."""
        self.wait("return document.readyState", "complete".__eq__)
        for n in range(self.run("return document.querySelectorAll('.rodpo-plot').length")):
            self.run("document.querySelectorAll('.rodpo-plot')[arguments[0]].scrollIntoView()", n)
            time.sleep(0.05)
        return self.wait(UNDRAWN, (0).__eq__)

    def loaded(self) -> set[Path]:
        """Files that the page has asked for since `open`."""
        messages = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        requests = [message["params"] for message in messages if message["method"] == "Network.requestWillBeSent"]
        urls = [request["request"]["url"] for request in requests]
        return {Path(unquote(urlparse(url).path)) for url in urls if url.startswith("file:")}

    def complaints(self) -> list[str]:
        """Console errors, requests that leave the disk, and files that are missing, since `open`."""
        complaints = [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] == "SEVERE"]
        for entry in self.driver.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                url = message["params"]["request"]["url"]
                if not url.startswith(("file:", "data:", "blob:", "chrome:")):
                    complaints.append(f"request: {url}")
            elif message["method"] == "Network.loadingFailed":
                complaints.append(f"not loaded: {message['params']}")
        return complaints

    def barriers(self) -> list[str]:
        """What axe-core finds serious or critical on the page, WCAG 2.2 AA."""
        if not self.run("return !!window.axe"):
            self.run(AXE.read_text(encoding="utf-8"))
        return self.driver.execute_async_script(BARRIERS)
