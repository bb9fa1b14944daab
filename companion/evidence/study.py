"""A study tunes one row: Optuna proposes its trials one by one, hopeless ones are stopped, an edge widens its range.

What is proposed follows from the trials so far, which <dataset>/<row>/study.json in the folder of runs holds: a study
that was killed proposes the same trial again, and its run goes on from where it was.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from companion.evidence.declaration import Method, Range, Study
from companion.evidence.grid import FINAL, PRIMARY, STUDY, Experiment, values
from rodpo_lite.data.schema import Dataset
from rodpo_lite.files import read_json, write_json
from rodpo_lite.training import checkpoint, runs
from rodpo_lite.training.trainer import TrainingDiverged

Search = dict[str, Range | list[Any]]
optuna.logging.set_verbosity(optuna.logging.WARNING)


class Stopped(Exception):
    """A trial is hopeless."""


def tune(experiment: Experiment, dataset: Dataset, folder: Path, report: runs.Report) -> list[dict[str, Any]]:
    """Run what is left of a study under the folder of runs; returns its trials.

    A trial holds its settings, `curve` (validation NDCG@5 by epoch), and if it finished, what `tuning.choose` asks for.
    Alignments start from the reference's final run with the seed of tuning, which must be there.
    """
    place = experiment.folder(folder)
    (seed,), rule = experiment.grid.tuning.seeds, experiment.grid.studies[experiment.method.study]
    tried = read_json(place / STUDY)["trials"] if (place / STUDY).exists() else []
    while (trial := propose(experiment.method, rule, tried)) is not None:
        config = experiment.config(trial.user_attrs["settings"], seed)
        out = place / f"trial-{len(tried)}" / f"seed-{seed}"
        for line in checkpoint.read_history(out) if (out / checkpoint.HISTORY).exists() else ():
            trial.report(line["valid"][PRIMARY], line["epoch"])
        start = experiment.reference and experiment.reference.folder(folder) / FINAL / f"seed-{seed}"
        tried.append({"settings": trial.user_attrs["settings"]} | _run(dataset, start, config, out, trial, report))
        write_json(place / STUDY, {"trials": tried})
    return tried


def propose(method: Method, rule: Study, tried: list[dict[str, Any]]) -> optuna.Trial | None:
    """The next trial, with its settings in `user_attrs`; None where the study is at its end."""
    search = widened(method, rule, tried)
    if search is None:
        return None
    space = {key: _distribution(choice) for key, choice in search.items()}
    sampler = optuna.samplers.TPESampler(n_startup_trials=rule.drawn, seed=len(tried))
    pruner = optuna.pruners.MedianPruner(n_startup_trials=rule.drawn, n_warmup_steps=rule.epochs)
    study = optuna.create_study(direction="maximize", sampler=sampler, pruner=pruner)
    for trial in tried:
        study.add_trial(_told(method, trial, space))
    if not tried:
        study.enqueue_trial(values(method, method.set, search))
    trial = study.ask(space)
    drawn = {key: search[key].rounded(v) if isinstance(search[key], Range) else v for key, v in trial.params.items()}
    trial.set_user_attr("settings", method.set | drawn if tried else dict(method.set))
    return trial


def widened(method: Method, rule: Study, tried: list[dict[str, Any]]) -> Search | None:
    """What is searched in the next trial, after the widenings so far; None where the study is at its end."""
    search = dict(method.search)
    for times in range(rule.widenings + 1):
        due = rule.trials + times * rule.more
        if len(tried) < due:
            return search
        best = values(method, max(tried[:due], key=_value)["settings"], search)
        wider = {
            key: choice.widened(best[key]) if isinstance(choice, Range) else choice for key, choice in search.items()
        }
        if wider == search:
            return None
        search = wider
    return None


def _value(trial: dict[str, Any]) -> float:
    return trial["valid"][0] if "valid" in trial else -1.0


def _distribution(choice: Range | list[Any]) -> BaseDistribution:
    if not isinstance(choice, Range):
        return CategoricalDistribution(choice)
    if choice.whole:
        return IntDistribution(round(choice.low), round(choice.high), log=True)
    return FloatDistribution(choice.low, choice.high, log=True)


def _told(method: Method, trial: dict[str, Any], space: dict[str, BaseDistribution]) -> FrozenTrial:
    """A trial that is over, as Optuna keeps it: one that was stopped or diverged is worth what it had."""
    curve = trial["curve"]
    return create_trial(
        state=TrialState.COMPLETE if "valid" in trial else TrialState.PRUNED if curve else TrialState.FAIL,
        params=values(method, trial["settings"], space), distributions=space,
        value=_value(trial) if "valid" in trial else max(curve, default=None),
        intermediate_values=dict(enumerate(curve, start=1)),
    )  # fmt: skip


def _run(
    dataset: Dataset, start: Path | None, config: Any, out: Path, trial: optuna.Trial, report: runs.Report
) -> dict[str, Any]:
    """Train one trial; what becomes of it."""

    def look(line: dict[str, Any]) -> None:
        report(line)
        trial.report(line["valid"][PRIMARY], line["epoch"])
        if line["epoch"] < line["epochs"] and trial.should_prune():
            raise Stopped

    result: dict[str, Any] = {}
    run: Callable[..., dict[str, Any]] = runs.train if start is None else runs.align
    try:
        record = run(dataset, *([start] if start else []), config, out, resume=True, report=look)
        result = {part: [record[part][PRIMARY]] for part in ("valid", "valid_masked")}
        result |= {key: [record[key]] for key in ("best_epoch", "seconds")}
    except Stopped:
        result["ended"] = "stopped"
    except TrainingDiverged:
        result["ended"] = "diverged"
    (out / checkpoint.CHECKPOINT).unlink(missing_ok=True)
    curve = [round(line["valid"][PRIMARY], 6) for line in checkpoint.read_history(out)]
    return result | {"curve": curve, "commit": read_json(out / checkpoint.RUN)["commit"]}
