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


def results(folder: Path = FOLDER) -> dict[str, Any]:
    """What `make bench` wrote; raises InputError where it has not run."""
    return _read(folder / "results.json", "make bench")


def tasks(measured: dict[str, Any]) -> pd.DataFrame:
    """A row for each task that a library has: task, library, seconds (median), least, most, ratio to ours, MiB (peak).

    A library without a time keeps its row, with the reason in `note`.
    """
    rows = []
    for task, outcomes in measured["tasks"].items():
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


def quality(measured: dict[str, Any]) -> pd.DataFrame:
    """Validation NDCG@10 over training seconds: task, library, round, seconds, NDCG@10, a row for each epoch."""
    rows = []
    for task in QUALITY:
        for library, outcome in measured["tasks"].get(task, {}).items():
            for number, curve in enumerate(outcome.get("curves", [])):
                rows += [(task, LIBRARIES[library], number, seconds, score) for seconds, score in curve]
    return pd.DataFrame(rows, columns=["task", "library", "round", "seconds", "NDCG@10"])


def converged(folder: Path = FOLDER) -> pd.DataFrame:
    """Validation NDCG@10 at equal epochs of full cross-entropy: library, seed, epoch, NDCG@10, a row for each epoch.

    `attrs` hold dataset and epochs. Raises InputError where it was not measured.
    """
    measured = _read(folder / "converged.json", "python benchmarks/converged.py")
    rows = [
        (LIBRARIES[run["library"]], run["seed"], epoch, score)
        for run in measured["runs"]
        for epoch, (_, score) in enumerate(run["curve"], start=1)
    ]
    table = pd.DataFrame(rows, columns=["library", "seed", "epoch", "NDCG@10"])
    table.attrs = {"dataset": measured["dataset"], "epochs": measured["epochs"]}
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


def curve(measured: dict[str, Any], name: str) -> pd.DataFrame:
    """One of our own curves: of (what was measured), x, seconds (median), least, most."""
    rows = [
        {
            "of": point["of"],
            "x": point["x"],
            "seconds": point["seconds"]["median"],
            "least": point["seconds"]["min"],
            "most": point["seconds"]["max"],
        }
        for point in measured["curves"][name]
    ]
    return pd.DataFrame(rows)


def accelerator(folder: Path = FOLDER) -> dict[str, Any]:
    """Our own curves on a GPU, with what they were measured on; raises InputError where that was not done."""
    return _read(folder / "accelerator.json", "python benchmarks/accelerator.py")


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


def precision(folder: Path = FOLDER) -> pd.DataFrame:
    """Pairs of runs that differ in precision alone: dataset, seed, validation NDCG@5 in fp32 and bf16, change in %."""
    pairs = pd.DataFrame(_read(folder / "precision.json", "python benchmarks/precision.py")["pairs"])
    return pairs.assign(change=100 * (pairs["bf16"] / pairs["fp32"] - 1))


def precision_change(pairs: pd.DataFrame) -> dict[str, Any]:
    """Of `precision`: how many pairs on each dataset, seeds, and the mean change over datasets and seeds.

    Its interval is Student's over the seeds: a seed counts once, by its mean.
    """
    of_seed = pairs.groupby("seed")["change"].mean()
    counts = [{"dataset": name.capitalize(), "count": len(part)} for name, part in pairs.groupby("dataset", sort=False)]
    return {"pairs": counts, "seeds": len(of_seed), "change": vars(seed_mean(of_seed.to_numpy()))}


def setting(measured: dict[str, Any]) -> dict[str, Any]:
    """Where `results` were measured: date, machine, version of torch, dataset."""
    torch, dataset = measured["versions"]["ours"]["torch"], measured["dataset"].capitalize()
    return {"date": measured["date"], "machine": measured["machine"], "torch": torch, "dataset": dataset}


def beside_best_peers(table: pd.DataFrame) -> pd.DataFrame:
    """Ours beside the fastest other library, a row for each task, by which it is indexed."""
    rows = []
    for task, label in {**EPOCHS, "evaluate": "ranking all users over the catalogue"}.items():
        peer, own = best_peer(table, task), _own(table, task)
        rows.append((task, label, own["seconds"], peer["library"], peer["seconds"], peer["ratio"]))
    columns = ["index", "task", "ours, s", "fastest other", "its time, s", "times ours"]
    return pd.DataFrame(rows, columns=columns).set_index("index")


def beside_recbole(table: pd.DataFrame) -> dict[str, float]:
    """How many times ours RecBole's epoch takes in bf16 and fp32, and our peak in MiB."""
    bf16, fp32 = (ratio_to(table, "epoch-full", name) for name in ("RecBole in bf16", "RecBole"))
    return {"bf16": bf16, "fp32": fp32, "peak": _own(table, "epoch-full")["MiB"]}


def _own(table: pd.DataFrame, task: str) -> pd.Series:
    return table.set_index(["task", "library"]).loc[(task, LIBRARIES["ours"])]


def time_to_quality(table: pd.DataFrame) -> list[dict[str, Any]]:
    """For each loss: task, label, our seconds, the fastest peer with its ratio if any came there, and who gave up."""
    losses = []
    for task, label in QUALITY.items():
        others = table[(table["task"] == task) & (table["library"] != LIBRARIES["ours"])]
        reached = others["seconds"].notna()
        peer = best_peer(table, task)[["library", "ratio"]].to_dict() if reached.any() else None
        given_up = others.loc[~reached & others["note"].astype(bool), ["library", "note"]].to_dict("records")
        loss = {"task": task, "label": label, "seconds": _own(table, task)["seconds"]}
        losses.append(loss | {"peer": peer, "given_up": given_up})
    return losses


def over_products(cost: pd.DataFrame) -> dict[str, float]:
    """How many times its bf16 products the epoch takes, its cross-entropy alone and its encoder alone."""
    parts = {"epoch": "", "cross_entropy": ", cross-entropy alone", "encoder": ", encoder alone"}
    return {name: ratio(cost, f"reference{part}", "bf16 products") for name, part in parts.items()}


def added(cost: pd.DataFrame, encoders: pd.DataFrame) -> dict[str, float]:
    """How many times a plain epoch one with `topk` takes, at which K, and a sparse mixture its dense twin."""
    return {"topk": ratio(cost, "alignment, topk", "reference"), "k": NegativesConfig().k} | _sparse(encoders)


def _sparse(table: pd.DataFrame) -> dict[str, float]:
    return {name: ratio(table, f"sparse {name}", f"dense twin of the {name}") for name in ("fusion", "feedforward")}


def curves_over(curves: dict[str, pd.DataFrame], labels: dict[str, str]) -> pd.DataFrame:
    """Several curves as one table, what each is over in a column."""
    return pd.concat(table.assign(over=labels[name]) for name, table in curves.items())


def growth(curves: dict[str, pd.DataFrame], seeds: pd.DataFrame) -> dict[str, Any]:
    """How a step grows: by the pool, in multiples of one without a preference loss, and by items, where sampled, %.

    items: the least and the most; seeds: the least and the most of several seeds at once over one after the other.
    """
    items, pool = curves["items"], curves["pool"]
    sampled = items[items["of"] == "sampled softmax"]
    plain = pool.loc[pool["x"] == 0, "seconds"].iloc[0]
    together = seeds.pivot(index="x", columns="of", values="seconds")
    together = together["side by side"] / together["one after the other"]
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
    together = seeds.pivot(index="x", columns="of", values="seconds")
    apart = seeds[seeds["of"] == "one after the other"]
    return {name: ratio(cost, of, "reference") for name, of in parts.items()} | {
        "seeds": together["side by side"] / together["one after the other"],
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


def _read(path: Path, command: str) -> dict[str, Any]:
    if not path.is_file():
        raise InputError(f"{path} does not exist; `{command}` writes it.")
    return read_json(path)
