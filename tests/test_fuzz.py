"""Broken input is refused in one sentence: a sample of `make trust`, and each fault that it has found."""

import gzip
import tracemalloc

import numpy as np
import pandas as pd
import pytest
from importing import refused, write
from trust.fuzz import try_all
from trust.fuzz_text import LAUGHS

from companion.site.pages import find_pages
from rodpo_lite.config import ReferenceConfig
from rodpo_lite.data.planted import PLANTED, Planted, plant
from rodpo_lite.data.schema import read_dataset
from rodpo_lite.errors import InputError
from rodpo_lite.settings import resolve

SAMPLE = {
    "datasets": 20,
    "imports": 25,
    "configurations": 20,
    "runs": 15,
    "ledgers": 10,
    "profiles": 8,
    "titles": 8,
    "baselines": 15,
    "parameters": 8,
}


def test_a_sample_of_broken_input(tmp_path):
    found = try_all(SAMPLE, tmp_path)
    assert found["unhandled"] == 0, found["first"]
    assert found["accepted"] > 0 and found["rejected"] > 0


@pytest.mark.parametrize(
    "text", ["seed: 2024-99-99", "seed: !!bool x", "seed: !!timestamp x", "seed: " + "[" * 3000, "seed: " + "9" * 5000]
)
def test_what_the_yaml_parser_chokes_on_is_not_valid_yaml(text, tmp_path):
    with pytest.raises(InputError, match="is not valid YAML"):
        resolve(ReferenceConfig, write(tmp_path / "a.yaml", text))
    with pytest.raises(InputError, match="is not a plain value"):
        resolve(ReferenceConfig, overrides=[text.replace(": ", "=", 1)])


def test_a_value_that_repeats_itself_is_named_in_short(tmp_path):
    """Written out it would have 3 · 10⁸ parts."""
    with pytest.raises(InputError, match="seed = ") as caught:
        resolve(ReferenceConfig, write(tmp_path / "a.yaml", LAUGHS + "seed: *i\n"))
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    "text",
    ["[]", "a: [", "profiles: 3"] + [
        f"profiles: {{smoke: {part}}}" for part in ("[1]", "{a: 3}", "{a: {k: 2024-01-01}}", "{a: {k: {1: 2, x: 3}}}")
    ],
)  # fmt: skip
def test_profiles_that_are_none(text, tmp_path):
    (tmp_path / "notebooks").mkdir()
    write(tmp_path / "notebooks" / "profiles.yml", text)
    with pytest.raises(InputError, match=r"profiles"):
        find_pages(tmp_path, "smoke", tmp_path)


def test_a_gzip_bomb_does_not_fill_the_memory(tmp_path):
    """A gigabyte in one line, a megabyte when packed."""
    packed = tmp_path / "a.csv.gz"
    with gzip.open(packed, "wb", compresslevel=1) as file:
        for _ in range(256):
            file.write(b"0" * 2**22)
    tracemalloc.start()
    refused(packed, "Line 1 of .* is longer than 16 MiB")
    assert tracemalloc.get_traced_memory()[1] < 200 * 2**20
    tracemalloc.stop()


@pytest.mark.parametrize(
    ("column", "value"), [("item", 150), ("user", -1), ("place", np.nan), ("item", "x")], ids=lambda value: str(value)
)
def test_planted_positives_that_do_not_fit_are_refused(column, value, world_folder, tmp_path):
    folder = plant(world_folder, tmp_path / "planted")
    dataset, hidden = read_dataset(folder), pd.read_parquet(folder / PLANTED)
    hidden[column] = [value] * len(hidden)
    hidden.to_parquet(folder / PLANTED)
    with pytest.raises(InputError, match=f"the column '{column}' must hold whole numbers from 0 to"):
        Planted.of(dataset, folder)
