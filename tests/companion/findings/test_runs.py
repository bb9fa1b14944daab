"""How runs were made: inputs, pools, precision; and references that were trained once more."""

import json
import shutil

import pandas as pd
import pytest
import tiny_ledger
from tiny_ledger import with_records

from companion.evidence.claims import Claim
from companion.evidence.comparison import quality
from companion.evidence.grid import Experiment, Grid
from companion.evidence.ledger import Ledger
from companion.findings import runs
from companion.findings.sentences import render
from rodpo_lite.files import write_json


def test_what_items_come_with(grid, folder, ledger):
    none = {"dataset": "World", "modalities": ()}
    assert runs.inputs(grid, ledger) == {"inputs": [none]}
    said = render("inputs", **runs.inputs(grid, ledger))
    assert "on World with nothing." in said and "So on World no mixture can show" in said
    for path in folder.glob("world-*.json"):
        entry = json.loads(path.read_text())
        entry["dataset"]["checksums"] = dict.fromkeys(("features/image.npy", "features/text.npy", "items.parquet"), "0")
        write_json(path, entry)
    both = {"dataset": "World", "modalities": ("text", "image")}
    assert runs.inputs(grid, Ledger(folder)) == {"inputs": [both]}
    assert render("inputs", inputs=[both]) == "Beside its ID, an item comes on World with texts and images."
    assert runs.inputs(grid, with_records(folder, ledger.records.iloc[:0])) == {"inputs": []}


def test_where_the_precision_was_another(grid, folder, ledger):
    records, claim = ledger.records, Claim(says="", source="paper", pairs=[("topk", "hard"), ("hard", "base")])

    def said(records):
        return runs.precisions(grid, [claim], with_records(folder, records))

    assert said(records.assign(precision=None)) == {"usual": None}
    assert said(records) == {"usual": "fp32", "others": [], "divided": []}
    records.loc[records["strategy"].isin(["topk", "hard"]) & (records["dataset"] == "world"), "precision"] = "bf16"
    facts = said(records)
    assert facts["others"] == [{"precision": "bf16", "rows": ("hard", "topk"), "dataset": "World"}]
    assert facts["divided"] == [{"after": "hard", "before": "base", "dataset": "World"}]
    records.loc[records["dataset"] == "world", "precision"] = "bf16"
    more = records.tail(1).assign(file="one more", dataset="elsewhere", precision="fp32")
    facts = said(pd.concat([records, more]))
    assert facts["others"] and not facts["divided"], "both sides of every pair had the same"


def test_how_many_items_the_pool_holds(folder, tmp_path):
    searched = tiny_ledger.DECLARED.replace("name: topk}", "name: topk}, search: {negatives.k: [5, 20]}")
    (tmp_path / "searched.yaml").write_text(searched.replace("trials: 1", "trials: 2"))
    searched = Grid.read(tmp_path / "searched.yaml")
    assert runs.pool(searched, Ledger(folder)) == {"pools": []}, "not chosen yet"
    first, second = searched.trials("topk")
    kept = {"seeds": [100], "chosen": 1, "trials": [{"settings": first}, {"settings": second}]}
    write_json(Experiment(searched, "world", "topk").trials_file(Ledger(folder)), kept)
    facts = runs.pool(searched, Ledger(folder))
    assert facts["pools"] == [{"size": second["negatives.k"], "dataset": "World", "items": 201}]
    assert facts["tried"] == [5, 20] and facts["sources"] == [], "tuned where it runs"


def test_the_ranks_that_are_drawn_from(ledger, tmp_path):
    window = "{negatives.name: rank_window, negatives.skip: 3, negatives.k: 7}"
    more = f"  window: {{tier: A, reference: base, set: {window}}}\n"
    (tmp_path / "more.yaml").write_text(tiny_ledger.DECLARED + more)
    (facts,) = runs.ranks_drawn(Grid.read(tmp_path / "more.yaml"), ledger, ("topk", "window"))["windows"]
    assert facts == {"dataset": "World", "rows": (("topk", 1, 20), ("window", 4, 10))}


def test_tables_of_quality_begin_with_the_best_row(grid, ledger):
    (table,) = runs.quality_tables(grid, quality(grid, ledger), ledger).values()
    assert table["row"].tolist()[0] == "topk" and len(table) == 3, "the best first, nothing hidden"
    assert (table["test ± its deviation"].str.count("±") == 1).all()


@pytest.fixture
def records(ledger):
    return ledger.records.assign(weights="known", reference_weights="known")


def test_rows_that_began_at_a_reference_that_is_not_on_record(grid, folder, records):
    ledger = with_records(folder, records)
    assert runs.began_elsewhere(grid, ledger) == [] and not runs.marked(grid, ledger)["counts"]
    records.loc[records["strategy"] == "hard", "reference_weights"] = "other"
    ledger = with_records(folder, records)
    assert runs.began_elsewhere(grid, ledger) == [("world", "hard")], "no planted dataset"
    assert runs.marked(grid, ledger)["counts"] == {"World": 1}
    assert runs.began_elsewhere(grid, ledger, ["world-planted"]) == [("world-planted", "hard")]
    records.loc[records["strategy"] == "hard", "accelerator"] = "Some GPU"
    facts = runs.marked(grid, with_records(folder, records))
    assert (facts["of"], facts["on_gpu"], facts["accelerators"]) == (1, 1, ["Some GPU"])
    sweep = grid.rows["hard"].model_copy(update={"tier": "C"})
    swept = grid.model_copy(update={"rows": grid.rows | {"hard": sweep}})
    assert not runs.marked(swept, ledger)["counts"], "sweeps are not in the tables"


def test_how_far_a_run_moves_with_its_reference(grid, folder, records):
    ledger = with_records(folder, records)
    assert runs.moves(grid, ledger).empty and runs.how_far(grid, ledger)["of"] == 0
    again = records[records["file"].isin(["world-align-topk1.json", "world-align-topk2.json"])].copy()
    again["file"], again["reference_weights"] = [f"again{number}" for number in (1, 2)], "other"
    again["test.ndcg@5"] *= [1.1, 0.9]
    both = pd.concat([again, records], ignore_index=True)
    ledger = with_records(folder, both)
    table = runs.moves(grid, ledger)
    assert table[["row", "seed"]].values.tolist() == [["topk", 1], ["topk", 2]]
    assert table["change %"].tolist() == pytest.approx([10, -10])
    facts = runs.how_far(grid, ledger)
    assert (facts["of"], list(facts["rows"]), facts["datasets"], facts["on_gpu"]) == (2, ["topk"], ["World"], 0)
    assert list(facts["deviation"].values()) == pytest.approx([14.142, 6.310, 451.27], rel=1e-3)
    twin = grid.model_copy(update={"rows": grid.rows | {"again": grid.rows["topk"]}})
    assert len(runs.moves(twin, ledger)) == 2, "a row with the same runs is there once"
    both["accelerator"] = both["accelerator"].mask(both["file"] == "again1", "Some GPU")
    ledger = with_records(folder, both)
    assert runs.how_far(grid, ledger)["on_gpu"] == 1
    assert runs.began_elsewhere(grid, ledger) == [], "what counts began at what is on record"


def test_a_row_that_was_computed_once_more_stands_beside_what_is_on_record(grid, folder, ledger, tmp_path):
    again = tmp_path / "again" / "2026-01-31"
    for name in ("ranks", "users"):
        shutil.copytree(folder / name, again / name)
    for path in [*folder.glob("world-reference-*.json"), *folder.glob("world-align-topk*.json")]:
        shutil.copy(path, again)
    (again / "ranks" / "world-align-topk1.parquet").write_bytes(
        (again / "ranks" / "world-align-hard1.parquet").read_bytes()
    )
    entry = json.loads((again / "world-align-topk1.json").read_text())
    entry["test"] |= {"ndcg@5": 1.1 * entry["test"]["ndcg@5"]}
    write_json(again / "world-align-topk1.json", entry)
    (one,) = runs.repeats(grid, ledger, tmp_path / "again")
    assert (one["day"], one["datasets"], len(one["runs"])) == ("2026-01-31", ["World"], 6)
    assert one["runs"]["difference %"].tolist() == pytest.approx([0, 0, 0, 10, 0, 0])
    assert (one["gains"]["change %"] < one["gains"]["change % on record"]).all() and len(one["gains"]) == 2
    said = render("repeats", **one).replace("\u00a0", " ")
    assert said.startswith("On 2026-01-31, `rodpo grid --again` computed `base` and `topk` on World once more")
    assert (
        "6 runs, of which 5 gave the very same test NDCG@5; the others moved by +10.0 % to +10.0 %, +1.7 % on average"
        in said
    )
    assert "With all items ranked, `topk` changes `base` by +" in said and said.endswith("].")
    same = one["runs"].assign(**{"difference %": 0.0})
    assert "6 runs, of which every one gave the very same test NDCG@5." in render(
        "repeats", **one | {"runs": same}
    ).replace("\u00a0", " ")
    assert runs.repeats(grid, ledger, tmp_path / "nothing") == []


def test_ours_beside_what_others_published(tmp_path):
    (tmp_path / "sports.yaml").write_text(tiny_ledger.DECLARED.replace("world", "sports").replace("base", "fused"))
    grid = Grid.read(tmp_path / "sports.yaml")
    lines = [("sports", "fused", 3, 0.02, 0.03), ("sports", "topk", 2, 0.03, 0.04)]
    found = pd.DataFrame(lines, columns=["dataset", "row", "seeds", "test", "test_masked"])
    table = runs.beside_published(grid, found).set_index(["system", "history"])["sports"]
    assert table["ours, reference", "ranked"] == 0.02 and table["ours, reference", "dropped"] == 0.03
    assert pd.isna(table["ours, aligned with topk", "ranked"]), "a seed is missing"
    facts = runs.beside_hm4sr(grid, found)
    (row,) = facts["rows"].to_dict("records")
    assert facts["quoted"] == table.loc["HM4SR"].iloc[0] and row["change"] == pytest.approx(
        100 * (0.02 / facts["quoted"] - 1)
    )
