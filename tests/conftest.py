"""Shared worlds and runs: made once, small, by the code under test."""

import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tiny_grid
import tiny_ledger
from chromium import CHROMIUM, DRIVER, Browser
from command_line import rodpo
from live_page import write_live_page

from companion.evidence.ledger import Ledger
from rodpo_lite.config import ReferenceConfig
from rodpo_lite.data.schema import read_dataset, write_dataset
from rodpo_lite.data.synthetic import WorldSizes, synthesise
from rodpo_lite.settings import build
from rodpo_lite.training import runs

LONGEST = "slurm workflow book browser check benchmarks faults distributed replicas matrix cli".split()


def pytest_collection_modifyitems(items):
    """Files that take longest come first, so that no worker is left with one of them when the others have ended."""
    places = {f"test_{name}.py": place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.name, len(places)))


@pytest.fixture(scope="session")
def world_folder(tmp_path_factory) -> Path:
    """A small synthetic world with text, image and an oracle."""
    return synthesise(tmp_path_factory.mktemp("worlds") / "small", 3, WorldSizes(users=200, items=150, slate=40))


@pytest.fixture(scope="session")
def world(world_folder):
    return read_dataset(world_folder)


@pytest.fixture(scope="session")
def small_config() -> ReferenceConfig:
    encoder = {"width": 16, "max_length": 12, "dropout": 0.2}
    return build(
        ReferenceConfig, {"encoder": encoder, "training": {"epochs": 3, "batches_per_epoch": 4, "learning_rate": 5e-3}}
    )


@pytest.fixture(scope="session")
def reference_folder(world, small_config, tmp_path_factory) -> Path:
    """A finished reference on the small world."""
    folder = tmp_path_factory.mktemp("runs") / "reference"
    runs.train(world, small_config, folder)
    return folder


@pytest.fixture(scope="module")
def browser(tmp_path_factory) -> Iterator[Browser]:
    if not (CHROMIUM and DRIVER):
        pytest.skip("the browser tests need chromium and chromedriver (Debian: chromium chromium-driver)")
    opened = Browser(tmp_path_factory.mktemp("profile"))
    yield opened
    opened.driver.quit()


@pytest.fixture(scope="session")
def live_page(tmp_path_factory) -> Path:
    return write_live_page(tmp_path_factory.mktemp("live"))


@pytest.fixture
def live(browser, live_page) -> Iterator[Browser]:
    """The page, opened, where nothing moves by itself."""
    still = {"features": [{"name": "prefers-reduced-motion", "value": "reduce"}]}
    browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", still)
    browser.open(live_page)
    browser.wait("return !document.querySelector('.rodpo-lab[hidden]')", bool)
    yield browser
    browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


@pytest.fixture(scope="session")
def grid_place(tmp_path_factory) -> Path:
    """A declared grid with its data."""
    pytest.importorskip("snakemake", reason="Snakemake is not installed")
    return tiny_grid.declare(tmp_path_factory.mktemp("grid"))


@pytest.fixture(scope="session")
def whole_grid(tmp_path_factory) -> dict:
    """What a grid without a break leaves in its ledger; the first worker that asks makes it for all."""
    place = tmp_path_factory.getbasetemp()
    place = (place.parent if "PYTEST_XDIST_WORKER" in os.environ else place) / "whole-grid"
    place.mkdir(exist_ok=True)
    with (place / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (place / "done").exists():
            whole = rodpo(*tiny_grid.arguments(tiny_grid.declare(place), "whole"))
            assert whole.returncode == 0, whole.stderr
            (place / "done").touch()
    found = tiny_grid.results(place / "whole" / "ledger")
    aligned = [entry for name, entry in found.items() if name.startswith("synthetic-planted-align")]
    assert sorted("drift" in entry for entry in aligned) == [False, True]
    assert "trials/synthetic.base.json" in found and "grid.json" in found
    return found


@pytest.fixture
def plain_folder(tmp_path) -> Path:
    """A user's own dataset: no timestamps, no image, float16 text features, some items without text."""
    rng = np.random.default_rng(5)
    rows = [(u, i, p) for u in range(60) for p, i in enumerate(rng.permutation(40)[: rng.integers(3, 9)])]
    items = pd.DataFrame({"item": np.arange(40), "text": [f"thing {i}" for i in range(40)]})
    items["has_text"] = np.arange(40) % 7 > 0
    items["text"] = items["text"].where(items["has_text"])
    features = {"text": rng.normal(size=(40, 6)).astype(np.float16)}
    interactions = pd.DataFrame(rows, columns=["user", "item", "position"])
    return write_dataset(tmp_path / "own", "own", interactions, items, features)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real datasets, or a visible skip."""
    folder = Path(os.environ.get("RODPO_DATA", Path(__file__).parents[1] / "data" / "amazon"))
    if not (folder / "toys" / "dataset.json").is_file():
        pytest.skip(f"no real data in {folder}: set RODPO_DATA to the folder that holds toys, beauty and sports")
    return folder


@pytest.fixture
def grid(tmp_path):
    """What the ledger of made-up runs declares."""
    return tiny_ledger.declare(tmp_path)


@pytest.fixture
def folder(grid, tmp_path):
    """A ledger of made-up runs whose effects are known."""
    return tiny_ledger.fill(grid, tmp_path / "ledger")


@pytest.fixture
def ledger(folder):
    """The same, opened; it is read when a test first asks."""
    return Ledger(folder)
