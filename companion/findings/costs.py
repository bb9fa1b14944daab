"""What things cost, as tables: read from the measurements that `benchmarks/` left in the repository."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from rodpo_lite.errors import InputError
from rodpo_lite.evaluation.statistics import Interval
from rodpo_lite.files import read_json

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"
LIBRARIES = {
    "ours": "rodpo_lite",
    "ours-fp32": "rodpo_lite in fp32",
    "recbole": "RecBole",
    "recbole-bf16": "RecBole in bf16",
    "replay": "RePlay",
    "replay-ce": "RePlay, its default loss",
    "replay-bf16": "RePlay in bf16",
    "replay-512": "RePlay, 512 users a batch",
    "rectools": "RecTools",
    "pmixer": "pmixer's SASRec",
}
EPOCHS = {
    "epoch-full": "full cross-entropy",
    "epoch-sampled": "softmax over 512 sampled items",
    "epoch-bce": "one negative a position",
}
QUALITY = {"quality-full": "full cross-entropy", "quality-sampled": "sampled softmax"}


def results(folder: Path = FOLDER) -> dict[str, Any]:
    """What `make bench` wrote; raises InputError where it has not run."""
    return _read(folder / "results.json", "make bench")


def tasks(found: dict[str, Any]) -> pd.DataFrame:
    """A row for each task that a library has: task, library, seconds (median), least, most, ratio to ours, MiB (peak).

    A library without a time keeps its row, with the reason in `note`.
    """
    rows = []
    for task, outcomes in found["tasks"].items():
        ours = outcomes.get("ours", {}).get("seconds")
        for library, outcome in outcomes.items():
            seconds, peak = outcome.get("seconds"), outcome.get("peak_mib")
            row = {"task": task, "library": LIBRARIES[library], "seconds": None, "least": None, "most": None}
            if seconds:
                row |= {"seconds": seconds["median"], "least": seconds["min"], "most": seconds["max"]}
            row["ratio"] = seconds["median"] / ours["median"] if seconds and ours else None
            rows.append(row | {"MiB": peak["median"] if peak else None, "note": outcome.get("note", "")})
    return pd.DataFrame(rows)


def best_peer(table: pd.DataFrame, task: str) -> pd.Series:
    """The row of `tasks` of the fastest other library, each at its own best setting."""
    others = table[(table["task"] == task) & ~table["library"].str.startswith(LIBRARIES["ours"])]
    return others.loc[others["seconds"].astype(float).idxmin()]


def ratio_to(table: pd.DataFrame, task: str, library: str) -> float:
    """How many times our median the median of a library takes."""
    return float(table.set_index(["task", "library"]).loc[(task, library), "ratio"])


def quality(found: dict[str, Any]) -> pd.DataFrame:
    """Validation NDCG@10 over training seconds: task, library, round, seconds, NDCG@10, a row for each epoch."""
    rows = []
    for task in QUALITY:
        for library, outcome in found["tasks"].get(task, {}).items():
            for number, curve in enumerate(outcome.get("curves", [])):
                rows += [(task, LIBRARIES[library], number, seconds, score) for seconds, score in curve]
    return pd.DataFrame(rows, columns=["task", "library", "round", "seconds", "NDCG@10"])


def converged(folder: Path = FOLDER) -> pd.DataFrame:
    """Validation NDCG@10 at equal epochs of full cross-entropy: library, seed, epoch, NDCG@10, a row for each epoch.

    `attrs` hold dataset and epochs. Raises InputError where it was not measured.
    """
    found = _read(folder / "converged.json", "python benchmarks/converged.py")
    rows = [
        (LIBRARIES[run["library"]], run["seed"], epoch, score)
        for run in found["runs"]
        for epoch, (_, score) in enumerate(run["curve"], start=1)
    ]
    table = pd.DataFrame(rows, columns=["library", "seed", "epoch", "NDCG@10"])
    table.attrs = {"dataset": found["dataset"], "epochs": found["epochs"]}
    return table


def best_epochs(table: pd.DataFrame) -> pd.DataFrame:
    """Of `converged`, a row a library: seeds, their mean best NDCG@10, its deviation.

    `change %` is ours over it, `low` and `high` the 95 % interval over seeds, by Student's t with one deviation for all
    libraries, pooled, so that one with a single seed has an interval, too; NaN where none has two.
    """
    of_run = table.groupby(["library", "seed"], sort=False)["NDCG@10"].max()
    libraries = of_run.groupby("library", sort=False)
    own, freedom = of_run[LIBRARIES["ours"]], len(of_run) - libraries.ngroups
    within = ((of_run - libraries.transform("mean")) ** 2).sum()
    rows = []
    for library, best in libraries:
        row = {"library": library, "seeds": len(best), "best NDCG@10": best.mean(), "deviation": best.std(ddof=1)}
        row |= {"change %": np.nan, "low": np.nan, "high": np.nan}
        if library != LIBRARIES["ours"]:
            row["change %"] = 100 * (own.mean() / best.mean() - 1)
            if freedom:
                ratio = own.mean() / best.mean()  # its error to first order, as in statistics.crossed_change
                error = np.sqrt(within / freedom * (1 / len(own) + ratio**2 / len(best)))
                half = 100 * stats.t.ppf(0.975, freedom) * error / best.mean()
                row |= {"low": row["change %"] - half, "high": row["change %"] + half}
        rows.append(row)
    return pd.DataFrame(rows)


def curve(found: dict[str, Any], name: str) -> pd.DataFrame:
    """One of our own curves: of (what was measured), x, seconds (median), least, most."""
    rows = [
        {
            "of": point["of"],
            "x": point["x"],
            "seconds": point["seconds"]["median"],
            "least": point["seconds"]["min"],
            "most": point["seconds"]["max"],
        }
        for point in found["curves"][name]
    ]
    return pd.DataFrame(rows)


def accelerator(folder: Path = FOLDER) -> dict[str, Any]:
    """Our own curves on a GPU, with what they were measured on; raises InputError where that was not done."""
    return _read(folder / "accelerator.json", "python benchmarks/accelerator.py")


def on_a_gpu(found: dict[str, Any], on_cpu: dict[str, Any]) -> pd.DataFrame:
    """Seconds of an epoch on a GPU, and on the CPU of `results`: epoch of, GPU s, its ratio, CPU s, its ratio.

    Ratios are to the plain epoch on the same device: alignments to the reference, encoders to the linear fusion.
    """
    rows = []
    for name, plain, kind in (("cost", "reference", "alignment"), ("encoders", "linear", "")):
        there, here = (curve(source, name).set_index("of")["seconds"] for source in (found, on_cpu))
        for of in there.index:
            if of in (plain, f"{plain}, fp32") or of.startswith(kind):
                ratios = there[of] / there[plain], here[of] / here[plain]
                rows.append((of, there[of], ratios[0], here[of], ratios[1]))
    return pd.DataFrame(rows, columns=["epoch of", "GPU, s", "GPU, ratio", "CPU, s", "CPU, ratio"])


def ratio(table: pd.DataFrame, of: str, to: str) -> float:
    """Median of one line of a `curve` over that of another."""
    medians = table.set_index("of")["seconds"]
    return float(medians[of] / medians[to])


def precision(folder: Path = FOLDER) -> pd.DataFrame:
    """Pairs of runs that differ in precision alone: dataset, seed, validation NDCG@5 in fp32 and bf16, change in %."""
    pairs = pd.DataFrame(_read(folder / "precision.json", "python benchmarks/precision.py")["pairs"])
    return pairs.assign(change=100 * (pairs["bf16"] / pairs["fp32"] - 1))


def mean_change(pairs: pd.DataFrame) -> Interval:
    """Mean change over datasets and seeds, with the t interval over seeds: a seed counts once, by its mean."""
    of_seed = pairs.groupby("seed")["change"].mean()
    half = stats.t.ppf(0.975, len(of_seed) - 1) * of_seed.std(ddof=1) / np.sqrt(len(of_seed))
    return Interval(of_seed.mean(), of_seed.mean() - half, of_seed.mean() + half)


def _read(path: Path, command: str) -> dict[str, Any]:
    if not path.is_file():
        raise InputError(f"{path} does not exist; `{command}` writes it.")
    return read_json(path)
