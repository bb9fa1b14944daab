"""The cost chapter's tables: what was measured, read as it stands."""

import json

import pandas as pd
import pytest

from companion.findings import costs
from companion.findings.sentences import render
from rodpo_lite.errors import InputError


def timing(median, spread=0.1):
    return {"median": median, "min": median - spread, "max": median + spread}


FOUND = {
    "tasks": {
        "epoch-full": {
            "ours": {"seconds": timing(2.0), "peak_mib": timing(800)},
            "ours-fp32": {"seconds": timing(4.0)},
            "replay": {"seconds": timing(20.0)},
            "recbole": {"seconds": timing(50.0)},
            "pmixer": {"note": "has no such loss"},
        },
        "quality-full": {"ours": {"seconds": timing(9.0), "curves": [[[1.0, 0.01], [2.0, 0.02]], [[1.5, 0.03]]]}},
    },
    "curves": {"cost": [{"of": "all", "x": 1, "seconds": timing(3.0)}, {"of": "part", "x": 1, "seconds": timing(1.5)}]},
}


def test_libraries_side_by_side():
    table = costs.tasks(FOUND)
    assert costs.best_peer(table, "epoch-full")["library"] == "RePlay", "ours in fp32 is no peer"
    by_library = table[table["task"] == "epoch-full"].set_index("library")
    assert by_library.loc["RecBole", "ratio"] == 25
    unmeasured = by_library.loc["pmixer's SASRec"]
    assert pd.isna(unmeasured["seconds"]) and unmeasured["note"] == "has no such loss"


def test_curves_and_their_ratios():
    assert costs.ratios(costs.curve(FOUND, "cost"), "part", whole="all") == {"whole": 2}
    reached = costs.quality(FOUND)
    assert reached[["round", "seconds", "NDCG@10"]].values.tolist() == [[0, 1.0, 0.01], [0, 2.0, 0.02], [1, 1.5, 0.03]]


def test_epochs_on_a_gpu_beside_those_on_a_cpu(tmp_path):
    def curves(**seconds):
        return [{"of": of, "x": 0, "seconds": {"min": s, "median": s, "max": s}} for of, s in seconds.items()]

    cpu = {"cost": curves(**{"reference": 4, "reference, fp32": 6, "alignment, topk": 6}), "encoders": curves(linear=5)}
    gpu = {"cost": curves(**{"reference": 1, "reference, fp32": 1, "alignment, topk": 2}), "encoders": curves(linear=1)}
    (tmp_path / "accelerator.json").write_text(json.dumps({"curves": gpu}))
    found = costs.on_a_gpu(costs.measured("accelerator", tmp_path), {"curves": cpu})
    assert found.values.tolist() == [
        ["reference", 1, 1, 4, 1],
        ["reference, fp32", 1, 1, 6, 1.5],
        ["alignment, topk", 2, 2, 6, 1.5],
        ["linear", 1, 1, 5, 1],
    ]
    with pytest.raises(InputError, match=r"accelerator.json does not exist; `python benchmarks/accelerator.py` writes"):
        costs.measured("accelerator", tmp_path / "elsewhere")


def test_pairs_of_both_precisions():
    facts = costs.precision_change(pd.DataFrame({"dataset": "a", "seed": [0, 1], "change": [0.0, 10.0]}))
    assert facts["change"]["estimate"] == pytest.approx(5) and facts["seeds"] == 2
    assert facts["change"]["low"] == pytest.approx(5 - 12.706 * 5, rel=1e-3)
    assert render("precision_cost", **facts).startswith("Pairs of runs: 2 on A. On average +5.00")


def test_equal_epochs():
    def run(library, seed, *scores):
        curve = [[60.0 * epoch, score] for epoch, score in enumerate(scores, start=1)]
        return {"library": library, "seed": seed, "curve": curve}

    runs = [run("ours", 0, 0.01, 0.031), run("ours", 1, 0.02, 0.029)]
    runs += [run("replay", 0, 0.021, 0.01), run("replay", 1, 0.019)]
    table = costs.converged({"runs": runs})
    assert table.values.tolist()[1] == ["rodpo_lite", 0, 2, 0.031]
    ours, replay = costs.best_epochs(table).to_dict("records")
    assert ours["best NDCG@10"] == pytest.approx(0.03) and pd.isna(ours["change %"])
    assert replay["change %"] == pytest.approx(50) and replay["deviation"] == pytest.approx(2**0.5 / 1000)
    # t(.975, 2) times the root of the pooled variance, .001² · 4 / 2, times 1/2 + 1.5²/2, over .02
    assert replay["high"] == pytest.approx(50 + 100 * 4.30265 * (2 * 0.001**2 * 1.625) ** 0.5 / 0.02, rel=1e-4)
    alone = costs.best_epochs(table[(table["library"] == "rodpo_lite") | (table["seed"] == 0)])
    assert alone["change %"][1] == pytest.approx(100 * (30 / 21 - 1))
    # the deviation is that of the two, t(.975, 1), and the mean of two stands against one, which the ratio scales
    half = 100 * 12.7062 * (2 * 0.001**2 * (0.5 + (30 / 21) ** 2)) ** 0.5 / 0.021
    assert alone["high"][1] == pytest.approx(100 * (30 / 21 - 1) + half, rel=1e-4)
    assert costs.best_epochs(table[table["seed"] == 0])["low"].isna().all(), "nothing says how far seeds are apart"


def test_missing_measurements_name_the_command(tmp_path):
    with pytest.raises(InputError, match="make bench"):
        costs.measured("results", tmp_path)


def test_the_committed_measurements_are_whole():
    """Three measurements of every task that ours has, and of our own curves, in the files that chapters read."""
    found = costs.measured("results")
    for task in (*costs.EPOCHS, "evaluate", "import", *costs.QUALITY):
        assert len(found["tasks"][task]["ours"]["seconds"]["raw"]) >= 3, task
    table = costs.tasks(found)
    ours = table[table["library"] == "rodpo_lite"].set_index("task")
    assert set(costs.EPOCHS) | {"evaluate", "import", *costs.QUALITY} <= set(ours.index)
    assert (ours["least"] <= ours["seconds"]).all() and (ours["seconds"] <= ours["most"]).all()
    for name, points in (found := costs.measured("curves"))["curves"].items():
        assert points and all(len(point["seconds"]["raw"]) >= 3 for point in points), name
    assert found["versions"]["ours"]["torch"]


def _curve(*lines):
    return pd.DataFrame(lines, columns=["of", "x", "seconds"]).assign(least=0.5, most=2.0)


def test_what_an_epoch_adds_to_its_products():
    epochs = [("bf16 products", 2), ("reference", 4), ("reference, cross-entropy alone", 3)]
    epochs += [("reference, encoder alone", 1), ("alignment, topk", 6), ("reference, fp32", 8)]
    cost = _curve(*((of, 1, seconds) for of, seconds in epochs))
    fusions = [("sparse fusion", 6), ("dense twin of the fusion", 3), ("sparse feedforward", 5)]
    encoders = _curve(*((of, 1, seconds) for of, seconds in [*fusions, ("dense twin of the feedforward", 4)]))
    lines = [("fp32 products", 1, 2), ("reference", 1, 1), ("bf16 products", 1, 3)]
    assert costs.products(_curve(*lines)) == ("fp32 products", "bf16 products")
    pool = _curve(("topk", 0, 2), ("topk", 5, 3))
    added = costs.added(cost, encoders, pool, [5, 7])
    assert (added["topk"], added["fusion"], added["feedforward"]) == (1.5, 2, 1.25)
    assert added["chosen"] == [{"k": 5, "times": 1.5}], "7 was not measured"
    seeds = _curve(
        ("one after the other", 2, 4), ("side by side", 2, 5), ("one after the other", 5, 10), ("side by side", 5, 8)
    )
    measured = {"cost": cost, "inference": encoders, "encoders": encoders, "seeds": seeds}
    points = {
        name: [
            {"of": row.of, "x": row.x, "seconds": {"median": row.seconds, "min": row.least, "max": row.most}}
            for row in table.itertuples()
        ]
        for name, table in measured.items()
    }
    ratios = costs.gpu_ratios({"curves": points})
    assert (ratios["products"], ratios["loss"], ratios["fp32"], ratios["topk"]) == (0.5, 0.75, 2, 1.5)
    assert ratios["seeds"].to_dict() == {2: 1.25, 5: 0.8} and (ratios["least"], ratios["most"]) == (0.5, 2.0)
    assert ratios["inference"] == {"fusion": 2, "feedforward": 1.25}
    items = _curve(("sampled softmax", 10, 1), ("sampled softmax", 40, 1.5), ("full cross-entropy", 10, 1))
    growth = costs.growth({"items": items, "pool": pool}, seeds)
    assert growth["pool"].to_dict() == {5: 1.5} and growth["items"] == (10, 40) and growth["spread"] == 50
    assert growth["seeds"] == (0.8, 1.25)


def test_where_sampling_starts_to_pay():
    full = [("full cross-entropy", items, items / 10) for items in (10, 20, 90)]
    table = costs.full_over_sampled(_curve(*full, *(("sampled softmax", items, 0.5) for items in (10, 20, 90))))
    assert table["full over sampled"].tolist() == [2, 4, 18]
    assert costs.meeting_point(table) == pytest.approx(5)


def test_a_race_names_the_fastest_and_who_gave_up():
    lines = [("rodpo_lite", 2.0, 1.0, ""), ("RePlay", 6.0, 3.0, ""), ("RecBole", None, None, "not reached")]
    full = pd.DataFrame(lines, columns=["library", "seconds", "ratio", "note"]).assign(task="quality-full")
    first, second = costs.time_to_quality(pd.concat([full, full[::2].assign(task="quality-sampled")]))
    assert first["seconds"] == 2 and first["peer"][["library", "ratio"]].tolist() == ["RePlay", 3.0]
    assert first["given_up"] == [{"library": "RecBole", "note": "not reached"}] == second["given_up"]
    assert second["peer"] is None, "nobody else came there"
