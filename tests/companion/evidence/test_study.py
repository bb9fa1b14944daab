"""A study: what it proposes, whom it stops, where it goes on, and what of it enters the ledger."""

import pytest

from companion.evidence import study, tuning
from companion.evidence.declaration import Range, Study
from companion.evidence.grid import Experiment, Grid
from companion.evidence.ledger import Ledger
from rodpo_lite.errors import InputError
from rodpo_lite.files import read_json, write_json

TINY = """
datasets: [world]
seeds: [1, 2]
tuning: {seeds: [100], trials: 3}
studies: {short: {trials: 5, drawn: 2, epochs: 2, more: 2, widenings: 1}}
rows:
  base:
    tier: A
    study: short
    set: {encoder.width: 8, encoder.heads: 1, encoder.blocks: 1, training.epochs: 4, training.batches_per_epoch: 4}
    search:
      training.learning_rate: {low: 1.0e-3, high: 1.0e-2}
      encoder.dropout: [0.1, 0.4]
  pool:
    tier: A
    reference: base
    study: short
    set: {training.epochs: 2, training.batches_per_epoch: 4, negatives.k: 5}
    search:
      negatives.k: {low: 2, high: 20, most: 30, whole: true}
"""
ROW, POOL = ("base", "pool")


RULE = Study(trials=5, drawn=2, epochs=2, more=2, widenings=1)


LIKE = """
  other: {tier: A, reference: base, like: pool, set: {training.epochs: 1, negatives.name: hard}}
"""


def test_what_a_study_begins_with_gives_way_to_what_it_chose(tmp_path):
    """The row sets k = 5, which is in its own search; one that is like it has what was chosen, but for what it sets."""
    (tmp_path / "grid.yaml").write_text(TINY + LIKE)
    grid, ledger = Grid.read(tmp_path / "grid.yaml"), Ledger(tmp_path)
    pool, other = (Experiment(grid, "world", name) for name in ("pool", "other"))
    trials = [_trial(pool.method.set | {"negatives.k": k}, value) for k, value in ((5, 0.1), (17, 0.2))]
    kept = {"seeds": [100], "study": pool.declared_study, "trials": trials, "chosen": 1}
    write_json(pool.trials_file(ledger), kept)
    assert pool.chosen(ledger) == pool.method.set | {"negatives.k": 17}
    assert other.chosen(ledger) == pool.chosen(ledger) | other.method.set and other.chosen(ledger)["negatives.k"] == 17


@pytest.fixture
def grid(tmp_path):
    (tmp_path / "grid.yaml").write_text(TINY)
    return Grid.read(tmp_path / "grid.yaml")


def _trial(settings, *curve):
    """A trial that finished."""
    return {"settings": settings, "curve": list(curve), "valid": [max(curve)]}


def test_a_study_begins_with_the_row_itself_and_then_stays_within_its_search(grid):
    tried = []
    for number in range(5):
        proposed = study.propose(grid.rows[ROW], RULE, tried).user_attrs["settings"]
        if number == 0:
            assert proposed == grid.rows[ROW].set
        else:
            assert 1e-3 <= proposed["training.learning_rate"] <= 1e-2 and proposed["encoder.dropout"] in (0.1, 0.4)
        assert proposed == study.propose(grid.rows[ROW], RULE, tried).user_attrs["settings"], "once and for all"
        tried.append(_trial(proposed, 0.3 - abs(proposed.get("training.learning_rate", 3e-3) - 4e-3)))
    assert len({trial["settings"].get("training.learning_rate") for trial in tried}) == 5
    assert study.propose(grid.rows[ROW], RULE, tried) is None, "the best is not at an edge"


@pytest.mark.parametrize(("best", "ends"), [(2, (1, 20)), (20, (2, 30)), (6, None)])
def test_an_edge_widens_the_range_once(grid, best, ends):
    method = grid.rows[POOL]
    tried = [_trial(method.set | {"negatives.k": k}, 0.2 if k == best else 0.1) for k in (5, 9, 12, 15, best)]
    search = study.widened(method, RULE, tried)
    if ends is None:
        assert search is None
        return
    assert (search["negatives.k"].low, search["negatives.k"].high) == ends
    more = [_trial(method.set | {"negatives.k": ends[best == 20]}, 0.3)] * 2
    assert study.widened(method, RULE, [*tried, more[0]]) is not None
    assert study.widened(method, RULE, [*tried, *more]) is None, "as often as declared"


def test_what_falls_behind_the_median_is_stopped(grid):
    """By hand: of two finished trials the medians are .2 and .3 after the first and second epoch."""
    method = grid.rows[ROW]
    done = [_trial(method.set | {"training.learning_rate": rate}, 0.2, 0.3) for rate in (2e-3, 3e-3)]
    for first, second, stopped in ((0.1, 0.29, True), (0.1, 0.31, False), (0.4, 0.1, False)):
        trial = study.propose(method, RULE, done)
        trial.report(first, 1)
        assert not trial.should_prune(), "never before the epoch declared"
        trial.report(second, 2)
        assert trial.should_prune() == stopped
    trial = study.propose(method, RULE, done[:1])
    trial.report(0.0, 2)
    assert not trial.should_prune(), "as long as fewer have finished than are drawn at random"


def test_a_study_that_was_killed_goes_on_and_its_best_trial_is_chosen(grid, world, tmp_path):
    experiment, lines = Experiment(grid, "world", ROW), []

    def kill(line):
        lines.append(line)
        if len(lines) == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        study.tune(experiment, world, tmp_path, kill)
    before = read_json(tmp_path / "world" / ROW / "study.json")["trials"]
    assert len(before) == 1 and lines[-1]["epoch"] == 3
    tried = study.tune(experiment, world, tmp_path, lines.append)
    assert tried[:1] == before and lines[7]["epoch"] == 4, "where it was"
    assert len(tried) >= 5 and all(("valid" in trial) != ("ended" in trial) for trial in tried)
    assert all(trial["valid"] == [pytest.approx(max(trial["curve"]), abs=1e-6)] for trial in tried if "valid" in trial)

    ledger = Ledger(tmp_path / "ledger")
    chosen = tuning.choose(experiment, tmp_path, ledger)
    best = max((trial for trial in tried if "valid" in trial), key=lambda trial: trial["valid"])
    assert chosen == best["settings"] == experiment.chosen(ledger)
    final = tmp_path / "world" / ROW / "final" / "seed-100"
    assert read_json(final / "run.json")["valid"]["ndcg@5"] == best["valid"][0]
    aligned = study.tune(Experiment(grid, "world", POOL), world, tmp_path, lines.append)
    assert tuning.choose(Experiment(grid, "world", POOL), tmp_path, ledger)["negatives.k"] <= 30
    assert len(aligned) >= 5
    kept = read_json(experiment.trials_file(ledger))
    write_json(experiment.trials_file(ledger), kept | {"study": {}})
    with pytest.raises(InputError, match="another declaration"):
        experiment.chosen(ledger)


@pytest.mark.parametrize(
    ("wrong", "right", "sentence"),
    [
        ("study: short", "study: long", "the row base names a study long, which is not declared"),
        ("seeds: [100]", "seeds: [100, 101]", "one seed to tune on"),
        ("low: 1.0e-3", "low: 5.0e-3", "begins with training.learning_rate = 0.003, which is not in its search"),
        ("[0.1, 0.4]", "[0.1, 0.2]", "begins with encoder.dropout = 0.4, which is not in its search"),
        ("most: 30", "most: 3", "high not above most"),
    ],
)
def test_a_study_that_cannot_be_is_refused(tmp_path, wrong, right, sentence):
    (tmp_path / "grid.yaml").write_text(TINY.replace(wrong, right))
    with pytest.raises(InputError, match=sentence):
        Grid.read(tmp_path / "grid.yaml")


def test_a_range_is_widened_on_the_side_of_the_value():
    found = Range(low=1, high=100)
    assert found.widened(1.2) == Range(low=0.1, high=100) and found.widened(90) == Range(low=1, high=1000)
    assert found.widened(10) == found
