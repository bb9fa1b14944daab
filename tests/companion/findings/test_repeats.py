"""References that were trained once more: what is said of rows that began there, and of runs that are there twice."""

import pandas as pd
import pytest
from tiny_ledger import with_records

from companion.findings import repeats


@pytest.fixture
def table(ledger):
    return ledger.records.assign(weights="known", reference_weights="known")


def test_rows_that_began_at_a_reference_that_is_not_on_record(grid, folder, table):
    ledger = with_records(folder, table)
    assert repeats.began_elsewhere(grid, ledger) == [] and repeats.told(grid, ledger) == ""
    table.loc[table["strategy"] == "hard", "reference_weights"] = "other"
    ledger = with_records(folder, table)
    assert repeats.began_elsewhere(grid, ledger) == [("world", "hard")], "no planted dataset"
    assert "below, 1 on World, began at" in repeats.told(grid, ledger)
    table.loc[table["strategy"] == "hard", "accelerator"] = "Some GPU"
    ledger = with_records(folder, table)
    assert "1 on World, all of them on a GPU (Some GPU), began at" in repeats.told(grid, ledger)
    assert repeats.began_elsewhere(grid, ledger, ["world-planted"]) == [("world-planted", "hard")]
    sweep = grid.rows["hard"].model_copy(update={"tier": "C"})
    swept = grid.model_copy(update={"rows": grid.rows | {"hard": sweep}})
    assert repeats.told(swept, ledger) == "", "sweeps are not in the tables"


def test_how_far_a_run_moves_with_its_reference(grid, folder, table):
    ledger = with_records(folder, table)
    assert repeats.moves(grid, ledger).empty and repeats.how_far(grid, ledger) == ""
    again = table[table["file"].isin(["world-align-topk1.json", "world-align-topk2.json"])].copy()
    again["file"], again["reference_weights"] = [f"again{number}" for number in (1, 2)], "other"
    again["test.ndcg@5"] *= [1.1, 0.9]
    both = pd.concat([again, table], ignore_index=True)
    ledger = with_records(folder, both)
    found = repeats.moves(grid, ledger)
    assert found[["row", "seed"]].values.tolist() == [["topk", 1], ["topk", 2]]
    assert found["change %"].tolist() == pytest.approx([10, -10])
    said = repeats.how_far(grid, ledger)
    assert said.startswith("2 runs of `topk` on World are on record once more")
    assert "that move is 14.1 % [6.3 %, 451.3 %]" in said
    twin = grid.model_copy(update={"rows": grid.rows | {"again": grid.rows["topk"]}})
    assert len(repeats.moves(twin, ledger)) == 2, "a row with the same runs stands once"
    assert "on a GPU" not in said
    both["accelerator"] = both["accelerator"].mask(both["file"] == "again1", "Some GPU")
    ledger = with_records(folder, both)
    assert "and seed, 1 of them on a GPU (Some GPU). Test" in repeats.how_far(grid, ledger)
    assert repeats.began_elsewhere(grid, ledger) == [], "what counts began at what is on record"
