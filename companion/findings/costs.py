"""What things cost, as tables: read from the measurements that `benchmarks/` left in the repository."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from companion.findings.names import NAMES
from rodpo_lite.errors import InputError
from rodpo_lite.evaluation.statistics import seed_mean
from rodpo_lite.files import read_json
from rodpo_lite.settings import read_preset

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"
LIBRARIES, EPOCHS, QUALITY = (NAMES[kind] for kind in ("libraries", "epochs", "quality"))
OURS = LIBRARIES["ours"]
SECONDS = {"seconds.median": "seconds", "seconds.min": "least", "seconds.max": "most"}


def measured(name: str, folder: Path = FOLDER) -> dict[str, Any]:
    """What `benchmarks/` left in <name>.json; raises InputError, which names the command, where that is missing."""
    path = folder / f"{name}.json"
    if not path.is_file():
        command = "make bench" if name in ("results", "curves") else f"python benchmarks/{name}.py"
        raise InputError(f"{path} does not exist; `{command}` writes it.")
    return read_json(path)


def tasks(results: dict[str, Any]) -> pd.DataFrame:
    """Median seconds of each task of each library, their ratio to ours and peak MiB, or in `note` why there is none."""
    outcomes = [
        {"task": task, "library": library} | outcome
        for task, libraries in results["tasks"].items()
        for library, outcome in libraries.items()
    ]
    columns = {"task": "task", "library": "library"} | SECONDS | {"ratio": "ratio", "peak_mib.median": "MiB"}
    table = pd.json_normalize(outcomes).reindex(columns=[*columns, "note"]).rename(columns=columns)
    ours = table[table["library"] == "ours"].set_index("task")["seconds"]
    ratio = table["seconds"] / table["task"].map(ours)
    return table.assign(library=table["library"].map(LIBRARIES), ratio=ratio, note=table["note"].fillna(""))


def best_peer(table: pd.DataFrame, task: str) -> pd.Series | None:
    """The row of `tasks` of the fastest other library; None if none has a time."""
    others = table[(table["task"] == task) & ~table["library"].str.startswith(OURS)].dropna(subset="seconds")
    return None if others.empty else others.loc[others["seconds"].astype(float).idxmin()]


def quality(measured: dict[str, Any]) -> pd.DataFrame:
    """Validation NDCG@10 over training seconds, a row for each epoch."""
    rows = []
    for task in QUALITY:
        for library, outcome in measured["tasks"].get(task, {}).items():
            for number, curve in enumerate(outcome.get("curves", [])):
                rows += [(task, LIBRARIES[library], number, seconds, score) for seconds, score in curve]
    return pd.DataFrame(rows, columns=["task", "library", "round", "seconds", "NDCG@10"])


def converged(measured: dict[str, Any]) -> pd.DataFrame:
    """Validation NDCG@10 at equal epochs of full cross-entropy, a row for each epoch."""
    rows = [
        (LIBRARIES[run["library"]], run["seed"], epoch, score)
        for run in measured["runs"]
        for epoch, (_, score) in enumerate(run["curve"], start=1)
    ]
    return pd.DataFrame(rows, columns=["library", "seed", "epoch", "NDCG@10"])


def best_epochs(table: pd.DataFrame) -> pd.DataFrame:
    """Of `converged`, the mean best NDCG@10 of each library, and by how much ours is above it.

    The 95 % interval over seeds is by Student's t with one deviation for all libraries, pooled, so that one with a
    single seed has an interval, too; NaN where none has two.
    """
    of_run = table.groupby(["library", "seed"], sort=False)["NDCG@10"].max()
    libraries = of_run.groupby("library", sort=False)
    rows = libraries.agg(**{"seeds": "size", "best NDCG@10": "mean", "deviation": "std"})
    freedom = (len(of_run) - len(rows)) or np.nan
    variance = ((of_run - libraries.transform("mean")) ** 2).sum() / freedom
    mean, own = rows["best NDCG@10"], rows.loc[OURS]
    ratio = own["best NDCG@10"] / mean  # its error to first order, as in statistics.crossed_change
    error = np.sqrt(variance * (1 / own["seeds"] + ratio**2 / rows["seeds"])) / mean
    change, half = 100 * (ratio - 1), 100 * stats.t.ppf(0.975, freedom) * error
    changes = pd.DataFrame({"change %": change, "low": change - half, "high": change + half})
    return rows.join(changes.drop(index=OURS)).reset_index()


def curve(measured: dict[str, Any], name: str) -> pd.DataFrame:
    """One of our own curves: median seconds of what was measured, over x."""
    return pd.json_normalize(measured["curves"][name])[["of", "x", *SECONDS]].rename(columns=SECONDS)


def on_a_gpu(measured: dict[str, Any], on_cpu: dict[str, Any]) -> pd.DataFrame:
    """Seconds of an epoch on either, and ratios to the plain one there: of the reference, or of the linear fusion."""
    rows = []
    for name, plain, kind in (("cost", "reference", "alignment"), ("encoders", "linear", "")):
        there, here = (curve(source, name).set_index("of")["seconds"] for source in (measured, on_cpu))
        for of in there.index:
            if of in (plain, f"{plain}, fp32") or of.startswith(kind):
                rows.append((of, there[of], there[of] / there[plain], here[of], here[of] / here[plain]))
    return pd.DataFrame(rows, columns=["epoch of", "GPU, s", "GPU, ratio", "CPU, s", "CPU, ratio"])


def ratios(table: pd.DataFrame, to: str, **of: str) -> dict[str, float]:
    """By name, medians of lines of a `curve` over the line `to`."""
    medians = table.set_index("of")["seconds"]
    return {name: float(medians[line] / medians[to]) for name, line in of.items()}


def products(cost: pd.DataFrame) -> tuple[str, str]:
    """The lines of the plain products in the faster precision, which is that of the epoch, and in the other."""
    return tuple(cost[cost["of"].str.endswith(" products")].sort_values("seconds")["of"])


def _sparse(table: pd.DataFrame) -> dict[str, float]:
    """By place, medians of a sparse mixture over its dense twin."""
    fusion = ratios(table, "dense twin of the fusion", fusion="sparse fusion")
    return fusion | ratios(table, "dense twin of the feedforward", feedforward="sparse feedforward")


def precision_change(pairs: pd.DataFrame) -> dict[str, Any]:
    """Mean `change` over pairs of runs that differ in precision alone; a seed counts once, by its mean."""
    of_seed = pairs.groupby("seed")["change"].mean()
    counts = pairs.groupby("dataset", sort=False).size()
    return {"pairs": counts, "seeds": len(of_seed), "change": vars(seed_mean(of_seed.to_numpy()))}


def time_to_quality(table: pd.DataFrame) -> list[dict[str, Any]]:
    """For each loss our seconds, the fastest peer, if any came there, and who gave up."""
    losses = []
    for task, label in QUALITY.items():
        part = table[table["task"] == task].set_index("library", drop=False)
        late = part[part["seconds"].isna() & part["note"].astype(bool)]
        loss = {"task": task, "label": label, "seconds": part.loc[OURS, "seconds"], "peer": best_peer(table, task)}
        losses.append(loss | {"given_up": late[["library", "note"]].to_dict("records")})
    return losses


def added(cost: pd.DataFrame, encoders: pd.DataFrame, pool: pd.DataFrame, sizes: Iterable[int] = ()) -> dict[str, Any]:
    """How many times a plain epoch one with `topk` takes, and a sparse mixture its dense twin.

    k: the pool of that epoch. chosen: of a step, over one without a preference loss, for those of the pool sizes that
    were measured.
    """
    steps = pool.set_index("x")["seconds"]
    chosen = [{"k": int(size), "times": steps[size] / steps[0]} for size in sizes if size in steps.index]
    return (
        ratios(cost, "reference", topk="alignment, topk")
        | _sparse(encoders)
        | {"k": read_preset("recommended")["negatives"]["k"], "chosen": chosen}
    )


def _side_by_side(seeds: pd.DataFrame) -> pd.Series:
    """How many seeds → time of all at once over one after the other."""
    together = seeds.pivot(index="x", columns="of", values="seconds")
    return together["side by side"] / together["one after the other"]


def growth(curves: dict[str, pd.DataFrame], seeds: pd.DataFrame) -> dict[str, Any]:
    """How a step grows: by the pool, in multiples of one without a preference loss, and by items, where sampled, %."""
    items, pool = curves["items"], curves["pool"].set_index("x")["seconds"]
    sampled, together = items[items["of"] == "sampled softmax"], _side_by_side(seeds)
    return {
        "pool": pool.drop(index=0) / pool[0],
        "items": (sampled["x"].min(), sampled["x"].max()),
        "spread": 100 * (sampled["seconds"].max() / sampled["seconds"].min() - 1),
        "seeds": (together.min(), together.max()),
    }


def gpu_ratios(measured: dict[str, Any]) -> dict[str, Any]:
    """What bounds an epoch on a GPU, in parts of the plain one, what a mixture adds there, and what a seed takes."""
    cost, inference, encoders, seeds = (curve(measured, name) for name in ("cost", "inference", "encoders", "seeds"))
    parts = {"loss": "reference, cross-entropy alone", "encoder": "reference, encoder alone", "fp32": "reference, fp32"}
    apart = seeds[seeds["of"] == "one after the other"]
    return ratios(cost, "reference", products="bf16 products", topk="alignment, topk", **parts) | {
        "seeds": _side_by_side(seeds),
        "least": apart["least"].min(),
        "most": apart["most"].max(),
        "inference": _sparse(inference),
        "training": _sparse(encoders),
    }


def full_over_sampled(items: pd.DataFrame) -> pd.DataFrame:
    """Seconds of a step over the catalogue, a column for each loss, and the ratio of the two."""
    by_loss = items.pivot_table(index="x", columns="of", values="seconds")
    return by_loss.assign(**{"full over sampled": by_loss["full cross-entropy"] / by_loss["sampled softmax"]})


def meeting_point(by_loss: pd.DataFrame) -> float:
    """Items at which a line through the first two full steps meets the sampled step, at least 0."""
    first, second = by_loss.index[:2]
    slope = by_loss["full cross-entropy"].diff().iloc[1] / (second - first)
    return max(first - (by_loss["full cross-entropy"] - by_loss["sampled softmax"]).iloc[0] / slope, 0)
