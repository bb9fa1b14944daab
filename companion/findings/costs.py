"""What things cost, as tables: read from the measurements that `benchmarks/` left in the repository."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from rodpo_lite.errors import InputError
from rodpo_lite.evaluation.statistics import seed_mean
from rodpo_lite.files import read_json
from rodpo_lite.sampling.selectors import NegativesConfig

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


def measured(name: str, folder: Path = FOLDER) -> dict[str, Any]:
    """What `benchmarks/` left in <name>.json: results, accelerator, converged or precision.

    Raises InputError, which names the command, where that was not measured.
    """
    path = folder / f"{name}.json"
    if not path.is_file():
        command = "make bench" if name == "results" else f"python benchmarks/{name}.py"
        raise InputError(f"{path} does not exist; `{command}` writes it.")
    return read_json(path)


def tasks(results: dict[str, Any]) -> pd.DataFrame:
    """A row for each task that a library has: task, library, seconds (median), least, most, ratio to ours, MiB (peak).

    A library without a time keeps its row, with the reason in `note`.
    """
    outcomes = [
        {"task": task, "library": library} | outcome
        for task, libraries in results["tasks"].items()
        for library, outcome in libraries.items()
    ]
    columns = {"seconds.median": "seconds", "seconds.min": "least", "seconds.max": "most"}
    columns |= {"ratio": "ratio", "peak_mib.median": "MiB", "note": "note"}
    table = pd.json_normalize(outcomes).reindex(columns=["task", "library", *columns]).rename(columns=columns)
    ours = table[table["library"] == "ours"].set_index("task")["seconds"]
    ratio = table["seconds"] / table["task"].map(ours)
    return table.assign(library=table["library"].map(LIBRARIES), ratio=ratio, note=table["note"].fillna(""))


def best_peer(table: pd.DataFrame, task: str) -> pd.Series:
    """The row of `tasks` of the fastest other library, each at its own best setting."""
    others = table[(table["task"] == task) & ~table["library"].str.startswith(LIBRARIES["ours"])]
    return others.loc[others["seconds"].astype(float).idxmin()]


def quality(measured: dict[str, Any]) -> pd.DataFrame:
    """Validation NDCG@10 over training seconds: task, library, round, seconds, NDCG@10, a row for each epoch."""
    rows = []
    for task in QUALITY:
        for library, outcome in measured["tasks"].get(task, {}).items():
            for number, curve in enumerate(outcome.get("curves", [])):
                rows += [(task, LIBRARIES[library], number, seconds, score) for seconds, score in curve]
    return pd.DataFrame(rows, columns=["task", "library", "round", "seconds", "NDCG@10"])


def converged(measured: dict[str, Any]) -> pd.DataFrame:
    """Validation NDCG@10 at equal epochs of full cross-entropy: library, seed, epoch, NDCG@10, a row for each epoch."""
    rows = [
        (LIBRARIES[run["library"]], run["seed"], epoch, score)
        for run in measured["runs"]
        for epoch, (_, score) in enumerate(run["curve"], start=1)
    ]
    return pd.DataFrame(rows, columns=["library", "seed", "epoch", "NDCG@10"])


def best_epochs(table: pd.DataFrame) -> pd.DataFrame:
    """Of `converged`, a row a library: seeds, their mean best NDCG@10, its deviation.

    `change %` is ours over it, `low` and `high` the 95 % interval over seeds, by Student's t with one deviation for all
    libraries, pooled, so that one with a single seed has an interval, too; NaN where none has two.
    """
    of_run = table.groupby(["library", "seed"], sort=False)["NDCG@10"].max()
    libraries = of_run.groupby("library", sort=False)
    rows = libraries.agg(**{"seeds": "size", "best NDCG@10": "mean", "deviation": "std"})
    freedom = (len(of_run) - len(rows)) or np.nan
    variance = ((of_run - libraries.transform("mean")) ** 2).sum() / freedom
    mean, own = rows["best NDCG@10"], rows.loc[LIBRARIES["ours"]]
    ratio = own["best NDCG@10"] / mean  # its error to first order, as in statistics.crossed_change
    error = np.sqrt(variance * (1 / own["seeds"] + ratio**2 / rows["seeds"])) / mean
    change, half = 100 * (ratio - 1), 100 * stats.t.ppf(0.975, freedom) * error
    changes = pd.DataFrame({"change %": change, "low": change - half, "high": change + half})
    return rows.join(changes.drop(index=LIBRARIES["ours"])).reset_index()


def curve(measured: dict[str, Any], name: str) -> pd.DataFrame:
    """One of our own curves: of (what was measured), x, seconds (median), least, most."""
    columns = {"of": "of", "x": "x", "seconds.median": "seconds", "seconds.min": "least", "seconds.max": "most"}
    return pd.json_normalize(measured["curves"][name])[list(columns)].rename(columns=columns)


def on_a_gpu(measured: dict[str, Any], on_cpu: dict[str, Any]) -> pd.DataFrame:
    """Seconds of an epoch on a GPU, and on the CPU of `results`: epoch of, GPU s, its ratio, CPU s, its ratio.

    Ratios are to the plain epoch on the same device: alignments to the reference, encoders to the linear fusion.
    """
    rows = []
    for name, plain, kind in (("cost", "reference", "alignment"), ("encoders", "linear", "")):
        there, here = (curve(source, name).set_index("of")["seconds"] for source in (measured, on_cpu))
        for of in there.index:
            if of in (plain, f"{plain}, fp32") or of.startswith(kind):
                ratios = there[of] / there[plain], here[of] / here[plain]
                rows.append((of, there[of], ratios[0], here[of], ratios[1]))
    return pd.DataFrame(rows, columns=["epoch of", "GPU, s", "GPU, ratio", "CPU, s", "CPU, ratio"])


def ratio(table: pd.DataFrame, of: str, to: str) -> float:
    """Median of one line of a `curve` over that of another."""
    medians = table.set_index("of")["seconds"]
    return float(medians[of] / medians[to])


def precision_change(pairs: pd.DataFrame) -> dict[str, Any]:
    """Of pairs of runs that differ in precision alone: how many on each dataset, seeds, and the mean `change`, in %.

    pairs: dataset, seed and change. The interval is Student's over the seeds: a seed counts once, by its mean.
    """
    of_seed = pairs.groupby("seed")["change"].mean()
    counts = [{"dataset": name.capitalize(), "count": len(part)} for name, part in pairs.groupby("dataset", sort=False)]
    return {"pairs": counts, "seeds": len(of_seed), "change": vars(seed_mean(of_seed.to_numpy()))}


def time_to_quality(table: pd.DataFrame) -> list[dict[str, Any]]:
    """For each loss: task, label, our seconds, the fastest peer with its ratio if any came there, and who gave up."""
    losses, ours = [], table[table["library"] == LIBRARIES["ours"]].set_index("task")["seconds"]
    for task, label in QUALITY.items():
        others = table[(table["task"] == task) & (table["library"] != LIBRARIES["ours"])]
        reached = others["seconds"].notna()
        peer = best_peer(table, task)[["library", "ratio"]].to_dict() if reached.any() else None
        given_up = others.loc[~reached & others["note"].astype(bool), ["library", "note"]].to_dict("records")
        loss = {"task": task, "label": label, "seconds": ours[task]}
        losses.append(loss | {"peer": peer, "given_up": given_up})
    return losses


def added(cost: pd.DataFrame, encoders: pd.DataFrame) -> dict[str, float]:
    """How many times a plain epoch one with `topk` takes, at which K, and a sparse mixture its dense twin."""
    return {"topk": ratio(cost, "alignment, topk", "reference"), "k": NegativesConfig().k} | _sparse(encoders)


def _sparse(table: pd.DataFrame) -> dict[str, float]:
    return {name: ratio(table, f"sparse {name}", f"dense twin of the {name}") for name in ("fusion", "feedforward")}


def _side_by_side(seeds: pd.DataFrame) -> pd.Series:
    """How many seeds → time of all at once over one after the other."""
    together = seeds.pivot(index="x", columns="of", values="seconds")
    return together["side by side"] / together["one after the other"]


def growth(curves: dict[str, pd.DataFrame], seeds: pd.DataFrame) -> dict[str, Any]:
    """How a step grows: by the pool, in multiples of one without a preference loss, and by items, where sampled, %.

    items: the least and the most; seeds: the least and the most of several seeds at once over one after the other.
    """
    items, pool = curves["items"], curves["pool"]
    sampled = items[items["of"] == "sampled softmax"]
    plain = pool.loc[pool["x"] == 0, "seconds"].iloc[0]
    together = _side_by_side(seeds)
    return {
        "pool": pool[pool["x"] > 0].set_index("x")["seconds"] / plain,
        "items": (sampled["x"].min(), sampled["x"].max()),
        "spread": 100 * (sampled["seconds"].max() / sampled["seconds"].min() - 1),
        "seeds": (together.min(), together.max()),
    }


def gpu_ratios(measured: dict[str, Any]) -> dict[str, Any]:
    """What bounds an epoch on a GPU, in parts of the plain one, and what a sparse mixture adds there.

    seeds: how many → time of all at once over one after the other; least, most: seconds of a seed.
    """
    cost, inference, encoders, seeds = (curve(measured, name) for name in ("cost", "inference", "encoders", "seeds"))
    parts = {
        "products": "bf16 products",
        "loss": "reference, cross-entropy alone",
        "encoder": "reference, encoder alone",
        "fp32": "reference, fp32",
        "topk": "alignment, topk",
    }
    apart = seeds[seeds["of"] == "one after the other"]
    return {name: ratio(cost, of, "reference") for name, of in parts.items()} | {
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
