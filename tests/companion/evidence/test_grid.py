"""The grid: what is declared, tried, chosen and left to do."""

import json

import pytest
import tiny_ledger
import yaml

from companion.evidence import plan, tuning
from companion.evidence.declaration import Range
from companion.evidence.grid import Experiment, Grid
from companion.evidence.ledger import Ledger
from companion.evidence.plan import Plan
from rodpo_lite.cli import main
from rodpo_lite.errors import InputError
from rodpo_lite.files import write_json

TINY = """
datasets: [world]
seeds: [1, 2]
tuning: {seeds: [100], trials: 3}
rows:
  base:
    tier: A
    set: {encoder.width: 8, encoder.heads: 1, encoder.blocks: 1, training.epochs: 2, training.batches_per_epoch: 4}
  none:
    tier: A
    reference: base
    set: {negatives.name: none, training.epochs: 2, training.batches_per_epoch: 4}
    search:
      training.learning_rate: {low: 1e-4, high: 1e-2}
      training.dropout: [true, false]
  topk: {tier: B, reference: base, like: none, set: {negatives.name: topk, negatives.k: 5}}
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "grid.yaml"
    path.write_text(TINY)
    return path


def test_the_committed_grid_can_be_read():
    """Every setting that any row may try is a valid configuration; every tuned row has as many trials."""
    grid = Grid.read(plan.GRID)
    tuned = {name: len(grid.trials(name)) for name, row in grid.rows.items() if row.search and not row.study}
    assert set(tuned.values()) == {grid.tuning.trials}
    assert {"none", "uniform", "hard", "topk"} <= tuned.keys()


def test_trials_start_from_the_defaults_and_stay_within_the_search(file):
    first, *others = Grid.read(file).trials("none")
    assert "training.learning_rate" not in first and first["negatives.name"] == "none"
    assert len(others) == 2
    for trial in others:
        assert 1e-4 <= trial["training.learning_rate"] <= 1e-2 and trial["training.dropout"] in (True, False)
    assert Grid.read(file).trials("none") == [first, *others], "declared once and for all"


def test_a_row_may_start_from_a_preset(file):
    row = Grid.read(
        _with(
            file,
            "    tier: A\n    set: {encoder.width: 8,",
            "    tier: A\n    preset: hm4sr\n    set: {encoder.width: 8,",
        )
    )
    settings = row.rows["base"].set
    assert settings["encoder.width"] == 8, "what the row sets comes after the preset"
    assert (settings["encoder.norm"], settings["id_contrast.weight"]) == ("post", 1)
    with pytest.raises(InputError, match=r"rows\.base\.preset = 'hm' is not valid: allowed are hm4sr"):
        Grid.read(_with(file, "preset: hm4sr", "preset: hm"))


def _with(file, wrong: str, right: str):
    assert wrong in file.read_text()
    file.write_text(file.read_text().replace(wrong, right))
    return file


def test_places_of_a_range_by_hand():
    assert Range(low=0.01, high=1).at(0.5) == 0.1


@pytest.mark.parametrize(
    ("wrong", "right", "sentence"),
    [
        ("seeds: [1, 2]", "seeds: [1, 100]", "seed 100 is both reported and tuned on"),
        ("reference: base", "reference: bass", "names a row bass"),
        ("seeds: [1, 2]", "seeds: [1, 1]", "a seed stands there twice"),
        ("seeds: [1, 2]", "seeds: []", r"seeds = \[\] is not valid: tuple should have at least 1 item"),
        ("seeds: [100]", "seeds: []", r"tuning.seeds = \[\] is not valid"),
        ("high: 1e-2", "high: 1e-5", "low must be below high"),
        ("negatives.k: 5", "negatives.kk: 5", "Unknown key 'negatives.kk'"),
        ("tier: B", "tier: D", "rows.topk.tier"),
        ("like: none", "like: base", "topk is like base"),
        ("like: none", "like: none, tuned_on: {world: world}", "tuned_on and study are for a row with a search"),
        ("reference: base", "reference: base\n    tuned_on: {world: moon}", "on moon for world: moon is not its own"),
        ("reference: base", "reference: base\n    tuned_on: {world: world}", "which is tuned on world"),
    ],
)
def test_a_wrong_declaration_is_refused(file, wrong, right, sentence):
    file.write_text(TINY.replace(wrong, right, 1))
    with pytest.raises(InputError, match=sentence):
        Grid.read(file)


def _pretend(folder, valid, seconds=1.0):
    """A finished trial, as far as choosing reads it."""
    record = {"valid": {"ndcg@5": valid}, "valid_masked": {"ndcg@5": valid}, "best_epoch": 1, "seconds": seconds}
    write_json(folder / "run.json", record | {"commit": "0"})


def test_the_best_on_validation_is_chosen_and_every_trial_is_kept(file, tmp_path):
    experiment = Experiment(Grid.read(file), "world", "none")
    assert experiment.chosen(Ledger(tmp_path / "ledger")) is None
    for number, valid in enumerate((0.1, 0.3, 0.3)):
        _pretend(tmp_path / "world" / "none" / f"trial-{number}" / "seed-100", valid)
    _pretend(tmp_path / "world" / "base" / "final" / "seed-100", 0.2)
    chosen = tuning.choose(experiment, tmp_path, Ledger(tmp_path / "ledger"))
    assert chosen == experiment.grid.trials("none")[1] == experiment.chosen(Ledger(tmp_path / "ledger")), (
        "the first of equals"
    )
    kept = json.loads((tmp_path / "ledger" / "trials" / "world.none.json").read_text())
    assert [trial["valid"] for trial in kept["trials"]] == [[0.1], [0.3], [0.3]] and kept["reference_valid"] == [0.2]
    like = Experiment(experiment.grid, "world", "topk").chosen(Ledger(tmp_path / "ledger"))
    assert like == chosen | {"negatives.name": "topk", "negatives.k": 5}
    assert tuning.choose(experiment, tmp_path, Ledger(tmp_path / "ledger")) == chosen, "the same once more"
    without = {key: value for key, value in kept.items() if key != "reference_valid"}
    write_json(tmp_path / "ledger" / "trials" / "world.none.json", without)
    assert tuning.choose(experiment, tmp_path, Ledger(tmp_path / "ledger")) == chosen, (
        "an older file names no reference"
    )
    _pretend(tmp_path / "world" / "none" / "trial-2" / "seed-100", 0.4)
    with pytest.raises(InputError, match="append-only"):
        tuning.choose(experiment, tmp_path, Ledger(tmp_path / "ledger"))
    assert json.loads((tmp_path / "ledger" / "trials" / "world.none.json").read_text()) == kept
    file.write_text(TINY.replace("seeds: [100]", "seeds: [101]"))
    with pytest.raises(InputError, match="another declaration"):
        Experiment(Grid.read(file), "world", "none").chosen(Ledger(tmp_path / "ledger"))


def test_a_trial_that_diverged_is_not_chosen(file, tmp_path):
    experiment = Experiment(Grid.read(file), "world", "none")
    for number, valid in enumerate((0.1, float("nan"), 0.3)):
        _pretend(tmp_path / "world" / "none" / f"trial-{number}" / "seed-100", valid)
    with pytest.raises(InputError, match="Trial 1 of none on world has no finite validation"):
        tuning.choose(experiment, tmp_path, Ledger(tmp_path / "ledger"))


def test_settings_on_record_are_written_down_without_the_trials(file, tmp_path, monkeypatch, capsys):
    grid = Grid.read(file)
    settings = grid.trials("none")
    kept = {"seeds": [100], "chosen": 2, "trials": [{"settings": one} for one in settings]}
    write_json(Experiment(grid, "world", "none").trials_file(Ledger(tmp_path / "ledger")), kept)
    place = ["--grid", str(file), "--ledger", str(tmp_path / "ledger"), "--runs", str(tmp_path / "runs")]
    for row in ("base", "none", "topk"):
        monkeypatch.setattr("sys.argv", ["rodpo", "grid", "choose", "--dataset", "world", "--row", row, *place])
        main()
    written = yaml.safe_load((tmp_path / "runs" / "world" / "none" / "final" / "config.yaml").read_text())
    assert written["training"]["learning_rate"] == settings[2]["training.learning_rate"]
    assert "world, topk: " in capsys.readouterr().out and (tmp_path / "runs/world/base/final/config.yaml").is_file()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["choose", "--dataset", "world", "--row", "topk"], "`rodpo grid --datasets world --rows none` runs them"),
        (["choose", "--dataset", "world", "--row", "none"], "is missing"),
        (["choose", "--dataset", "moon", "--row", "topk"], "does not run topk on moon"),
        (["--datasets", "moon", "--rows", "topk", "--plan"], "declares no run of these rows"),
        (["--rows", "topk", "--seeds", "2", "--plan"], "declares no run of these rows"),
        (["--tier", "B", "--seeds", "2", "--plan"], "declares no run of these rows"),
    ],
)
def test_what_is_not_declared_or_not_chosen_cannot_be_asked_for(
    file, tmp_path, monkeypatch, capsys, arguments, sentence
):
    file.write_text(
        TINY.replace("[world]", "[world, moon]").replace(
            "topk: {tier: B", "topk: {tier: B, datasets: [world], seeds: [1]"
        )
    )
    place = ["--grid", str(file), "--ledger", str(tmp_path / "ledger"), "--runs", str(tmp_path / "runs")]
    monkeypatch.setattr("sys.argv", ["rodpo", "grid", *arguments, *place])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 2 and sentence in " ".join(capsys.readouterr().err.split())


def test_settings_are_carried_over_to_where_a_row_is_not_tuned(file, tmp_path):
    text = TINY.replace("[world]", "[world, moon]")
    file.write_text(text.replace("reference: base", "reference: base\n    tuned_on: {moon: world}", 1))
    grid = Grid.read(file)
    assert {experiment.name: experiment.tuned.dataset for experiment in grid.experiments(("moon",))} == {
        "base": "moon", "none": "world", "topk": "world",
    }  # fmt: skip
    plan = Plan(file, grid, grid.experiments(("moon",)), tmp_path / "runs", Ledger(tmp_path / "ledger"))
    written = json.loads(plan.write(tmp_path / "data", 1).read_text())
    assert "world/none" in written["untuned"] and (tmp_path / "runs" / "world" / "none" / "trial-2").is_dir()
    assert not (tmp_path / "runs" / "moon" / "none" / "trial-0").exists(), "its own trials are of no use"
    assert not plan.summary()["trials"].any()


def test_trials_of_another_declaration_are_refused(file, tmp_path):
    experiment = Experiment(Grid.read(file), "world", "none")
    for number in range(3):
        _pretend(tmp_path / "world" / "none" / f"trial-{number}" / "seed-100", 0.1)
    _pretend(tmp_path / "world" / "base" / "final" / "seed-100", 0.1)
    tuning.choose(experiment, tmp_path, Ledger(tmp_path / "ledger"))
    file.write_text(TINY.replace("high: 1e-2", "high: 2e-2"))
    with pytest.raises(InputError, match="another declaration"):
        Experiment(Grid.read(file), "world", "none").chosen(Ledger(tmp_path / "ledger"))


def test_a_plan_says_what_is_left(file, tmp_path):
    grid = Grid.read(file)
    made = Plan(file, grid, grid.experiments(), tmp_path / "runs", Ledger(tmp_path / "ledger"))
    assert {experiment.name: seeds for experiment, seeds in made.left().items()} == {
        "base": [1, 2], "none": [1, 2], "topk": [1, 2],
    }  # fmt: skip
    summary = made.summary().set_index("row")
    assert summary["trials"].to_dict() == {"base": 0, "none": 3, "topk": 0}, "topk takes the settings of none"
    assert summary["minutes"].isna().all(), "nothing was measured"
    made.write(tmp_path, 1)
    assert len(list((tmp_path / "runs" / "world" / "none").glob("trial-*/config.yaml"))) == 3
    final = tmp_path / "runs" / "world" / "base" / "final"
    assert (final / "config.yaml").is_file()
    (final / "1.evaluated").touch()
    made.write(tmp_path, 1)
    assert not (final / "1.evaluated").exists(), "the ledger does not hold it, whatever was done before"


def test_what_would_begin_at_a_reference_that_does_not_count_is_not_begun(tmp_path):
    """The ids in this ledger are not those of the settings, as where settings were added since it was recorded."""
    grid = tiny_ledger.declare(tmp_path)
    ledger = tiny_ledger.fill(grid, tmp_path / "ledger")
    (ledger / "world-align-topk2.json").unlink()
    made = Plan(tmp_path / "grid.yaml", grid, grid.experiments(), tmp_path / "runs", Ledger(ledger))
    with pytest.raises(InputError, match=r"topk starts from base, of which world-reference-base2\.json is on record"):
        made.write(tmp_path, 1)
    assert not (tmp_path / "runs").exists()
    write_json(tmp_path / "runs" / "world" / "base" / "final" / "seed-2" / "run.json", {})
    made.write(tmp_path, 1)


def test_minutes_are_those_of_a_cpu(tmp_path):
    grid = tiny_ledger.declare(tmp_path)
    folder = tiny_ledger.fill(grid, tmp_path / "ledger")
    for path in folder.glob("world-align-topk*.json"):
        entry, of_gpu = json.loads(path.read_text()), path.stem.endswith("3")
        write_json(path, entry | {"device": "cuda:0" if of_gpu else "cpu", "seconds": 1.0 if of_gpu else 120.0})
    made = Plan(tmp_path / "grid.yaml", grid, grid.experiments(), tmp_path / "runs", Ledger(tmp_path / "empty"))
    minutes = made.summary(Ledger(folder)).set_index(["dataset", "row"])["minutes"]
    assert minutes["world", "topk"] == 3 * 2.0 and minutes.drop([("world", "topk"), ("world", "hard")]).isna().all()


def test_some_seeds_of_every_row(file, tmp_path, monkeypatch, capsys):
    grid = Grid.read(file)
    made = Plan(file, grid, grid.experiments(), tmp_path / "runs", Ledger(tmp_path / "ledger"), (2,))
    assert list(made.left().values()) == [[2]] * 3
    monkeypatch.setattr("sys.argv", ["rodpo", "grid", "--grid", str(file), "--seeds", "2,7", "--plan"])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 2 and "--seeds 7 is not valid" in capsys.readouterr().err


def test_experiments_by_name_and_tier(file):
    grid = Grid.read(file)
    of_tier, of_row = grid.experiments(tiers="A"), grid.experiments(rows=("topk",))
    assert [experiment.name for experiment in of_tier] == ["base", "none"]
    assert [experiment.name for experiment in of_row] == ["base", "topk"], "with what it starts from"
    with pytest.raises(InputError, match="no row 'topp'"):
        grid.experiments(rows=("topp",))


HIDDEN = """
planted:
  world-planted: {source: world, share: 0.1}
  world-planted-40: {source: world, share: 0.4, tier: C, rows: [base, none], seeds: [2]}
"""


@pytest.fixture
def hidden(file):
    text = TINY.replace("[world]", "[world, world-planted, world-planted-40]") + HIDDEN
    text = text.replace("tier: A", "tier: A\n    planted: true").replace("like: none,", "like: none, planted: true,")
    file.write_text(text)
    return file


def test_other_shares_are_hidden_for_a_few_rows_and_seeds(hidden, tmp_path):
    grid = Grid.read(hidden)
    names = {dataset: [experiment.name for experiment in grid.experiments((dataset,))] for dataset in grid.datasets}
    assert [grid.label(name) for name in ("world", "world-planted-40")] == ["World", "World, 40 % hidden"]
    assert names["world-planted"] == ["base", "none", "topk"] and names["world-planted-40"] == ["base", "none"]
    assert [experiment.dataset for experiment in grid.experiments(tiers="B")] == ["world"] * 2 + ["world-planted"] * 2
    assert not grid.experiments(("world-planted-40",), tiers="A")
    assert len(grid.experiments(("world-planted-40",), tiers="C")) == 2
    last = grid.experiments(("world-planted-40",))[-1]
    assert last.seeds == (2,) and last.tuned == Experiment(grid, "world", "none")


@pytest.mark.parametrize(
    ("wrong", "right", "sentence"),
    [
        ("rows: [base, none]", "rows: [none]", "lacks the reference of none"),
        ("rows: [base, none]", "rows: [base, nine]", "asks for nine"),
        ("seeds: [2]", "seeds: [7]", "has a seed 7"),
        ("world-planted-40", "elsewhere", "is called world-planted"),
        ("source: world, share: 0.4", "source: moon, share: 0.4", "or moon is not among the datasets"),
    ],
)
def test_a_wrong_share_is_refused(hidden, wrong, right, sentence):
    hidden.write_text(hidden.read_text().replace(wrong, right))
    with pytest.raises(InputError, match=sentence):
        Grid.read(hidden)


def test_a_grid_that_stops_exits_with_1(file, tmp_path, monkeypatch, capsys):
    (tmp_path / "world").mkdir()
    write_json(tmp_path / "world" / "dataset.json", {"name": "world"})
    monkeypatch.setattr(plan, "run", lambda *_: 1)
    options = ["--grid", file, "--data", tmp_path, "--runs", tmp_path / "runs", "--ledger", tmp_path / "ledger"]
    monkeypatch.setattr("sys.argv", ["rodpo", "grid", *map(str, options)])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 1 and "goes on where it is" in capsys.readouterr().err


def test_what_is_on_record_is_repeated_beside_it(tmp_path, monkeypatch, capsys):
    """The chosen settings are taken over, the ledger is left alone, and both numbers are shown."""
    grid = tiny_ledger.declare(tmp_path)
    kept = tiny_ledger.fill(grid, tmp_path / "ledger")
    write_json(kept / "trials" / "world.base.json", {"chosen": 0})
    before = sorted(kept.rglob("*"))
    monkeypatch.setattr(plan, "run", lambda made, *_: tiny_ledger.fill(made.grid, made.ledger.folder) and 0)
    for name in ("world", "world-planted"):
        write_json(tmp_path / name / "dataset.json", {"name": name})
    options = ["--grid", tmp_path / "grid.yaml", "--data", tmp_path, "--runs", tmp_path / "runs", "--ledger", kept]
    monkeypatch.setattr("sys.argv", ["rodpo", "grid", "--rows", "topk", "--again", *map(str, options)])
    main()
    told = capsys.readouterr().out
    assert told.count("topk") == 6 and told.count("+0.00") == 12, "with its reference, on both datasets"
    assert sorted(kept.rglob("*")) == before
    assert (tmp_path / "runs" / "again" / "ledger" / "trials" / "world.base.json").is_file()


def test_without_a_checkout_there_is_no_grid(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(plan, "GRID", tmp_path / "workflow" / "grid.yaml")
    monkeypatch.setattr("sys.argv", ["rodpo", "grid", "--plan"])
    with pytest.raises(SystemExit) as stop:
        main()
    (line,) = capsys.readouterr().err.splitlines()
    assert stop.value.code == 2 and "in a checkout of the project with the extra [grid] installed" in line


def test_a_dataset_has_the_name_of_its_folder(file, tmp_path, monkeypatch, capsys):
    (tmp_path / "world").mkdir()
    write_json(tmp_path / "world" / "dataset.json", {"name": "mine"})
    monkeypatch.setattr("sys.argv", ["rodpo", "grid", "--grid", str(file), "--data", str(tmp_path)])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 2 and "calls itself 'mine'" in capsys.readouterr().err
