"""The verdict explorer offers what is on record, with the numbers of every other table."""

import pytest

from companion.evidence import comparison
from companion.findings import changes, explorer

NUMBERS = ["change %", "low", "high"]


@pytest.fixture
def found(grid, ledger, monkeypatch):
    monkeypatch.setattr(explorer, "BASES", {"base": "one base", "other": "another"})
    return explorer.table(grid, ledger)


def test_every_pair_that_has_run_is_there_as_it_is_elsewhere(grid, ledger, found):
    pairs = found[["rejected", "against"]].drop_duplicates().to_records(index=False).tolist()
    assert sorted(pairs) == [("hard", "reference"), ("hard", "topk"), ("topk", "hard"), ("topk", "reference")]
    for stays in (False, True):
        known = comparison.changes(grid, [("topk", "hard")], ledger, protocols=["all items"], or_reference=stays)
        chosen = (found["rejected"] == "topk") & (found["against"] == "hard") & (found["stays"] == stays)
        shown = found[chosen & (found["protocol"] == "all items")]
        assert shown[NUMBERS].to_numpy() == pytest.approx(known[NUMBERS].to_numpy())


def test_the_browser_gets_places_of_choices_and_numbers(grid, found):
    given = explorer.inputs(grid, found)
    names = {key: [name for name, _ in known] for key, known in given["choices"].items()}
    assert names["base"] == ["base"] and names["rejected"] == ["topk", "hard"] and names["dataset"] == ["world"]
    assert dict(given["choices"]["against"])["reference"] == "the reference"
    assert len(given["rows"]) == len(found)
    for row, (_, line) in zip(given["rows"], found.iterrows(), strict=True):
        chosen = [names[key][place] for key, place in zip(explorer.KEYS, row[:4] + row[5:6]) if key != "stays"]
        assert chosen == line[["base", "rejected", "against", "protocol"]].tolist()
        assert row[4] == line["stays"] and row[6:] == pytest.approx(line[NUMBERS].tolist(), abs=0.001)


def test_what_the_still_shows(monkeypatch, grid, ledger):
    monkeypatch.setattr(explorer, "BASES", {"base": "one base"})
    shown = explorer.pool_alone(explorer.table(grid, ledger).assign(base="fused"))
    assert shown["against"].tolist() == ["reference", "hard"] and not shown["stays"].any()
    assert changes.labelled(grid, shown)["dataset"].unique().tolist() == ["World"]
