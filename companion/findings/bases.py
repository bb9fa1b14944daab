"""The bases that are aligned: how good they become along training, what makes them work, when they memorise and whether
an alignment cures that."""

from typing import Any

import numpy as np
import pandas as pd

from companion.evidence import interventions
from companion.evidence.comparison import changes, paired_seeds, quality
from companion.evidence.grid import Experiment, Grid
from companion.evidence.ledger import PROTOCOLS, Ledger
from companion.evidence.record import Record
from rodpo_lite.evaluation.statistics import seed_change
from rodpo_lite.settings import dotted, read_preset

BASES, DATASET = ("fused", "towers", "hm4sr"), "toys-timed"  # rows, and where all of them run
PARTS = dict(zip(PROTOCOLS, ("valid", "valid_masked"), strict=True))
LONGER = {  # references that differ in how long they were trained alone, and what the pool is held against
    "memory.short": ("memory.short_topk", "memory.short_none"), "cause": ("cause.topk", "cause.none"),
    "memory.long": ("memory.long_topk", "memory.long_none"),
}  # fmt: skip
ALIGNED = {  # a reference, and the row that the pool makes of it
    "fused": "topk", "fused_moe": "topk_on_moe", "fused_twin": "topk_on_twin", "short": "short_topk",
    "memory.short": "memory.short_topk", "memory.long": "memory.long_topk",
    "towers": "towers_topk", "towers_moe": "towers_topk_on_moe",
    "hm4sr": "hm4sr_topk", "hm4sr_moe": "hm4sr_topk_on_moe", "hm4sr_twin": "hm4sr_topk_on_twin",
}  # fmt: skip


def along_training(grid: Grid, ledger: Ledger) -> pd.DataFrame:
    """Each base by epoch, mean over the seeds that are still training: base, epoch, seeds, NDCG@5 on validation by
    protocol, and training and validation loss (cross-entropy over the catalogue) where they are on record."""
    lines = []
    for base in BASES:
        for seed, file in Experiment(grid, DATASET, base).recorded(ledger).items():
            for line in Record.read(ledger.folder / file).curve:
                kept = {protocol: line[f"{part}.ndcg@5"] for protocol, part in PARTS.items()}
                losses = {"training loss": line.get("loss_ce", line["loss"]), "validation loss": line.get("valid_loss")}
                lines.append({"base": base, "epoch": int(line["epoch"]), "seed": seed} | kept | losses)
    if not lines:
        return pd.DataFrame(columns=["base", "epoch", "seeds", *PARTS, "training loss", "validation loss"])
    table = pd.DataFrame(lines).astype({"validation loss": float})
    by_epoch = table.groupby(["base", "epoch"], sort=False)
    return by_epoch.mean().assign(seeds=by_epoch.size()).drop(columns="seed").reset_index()


def memorising(curves: pd.DataFrame) -> pd.DataFrame:
    """Where each base begins to memorise: the epoch that is best in each protocol, and the last one."""
    rows = []
    for base, part in curves.groupby("base", sort=False):
        part = part[part["seeds"] == part["seeds"].max()].set_index("epoch")  # as long as all of them train
        ranked, dropped = (part[protocol].idxmax() for protocol in PARTS)
        rows.append((base, dropped, ranked, part.index.max()))
    return pd.DataFrame(rows, columns=["base", "dropped", "ranked", "epochs"])


def side_by_side(grid: Grid, ledger: Ledger) -> pd.DataFrame:
    """`quality` of each base wherever the last one has run; Toys is one dataset, with times or without."""
    found = quality(grid, ledger)
    found = found[found["row"].isin(BASES) & found["dataset"].isin(grid.known)]
    found = found.assign(dataset=[grid.label(name, whole=False) for name in found["dataset"]])
    theirs = found.loc[found["row"] == BASES[-1], "dataset"]
    return found[found["dataset"].isin(theirs)].drop_duplicates(["dataset", "row"])


def settings(grid: Grid, ledger: Ledger) -> pd.DataFrame:
    """The preset `hm4sr`, a row for each key, and beside it what the runs on record took, a column for each dataset."""
    columns = {"the preset": dotted(read_preset(BASES[-1]))}
    for dataset in (name for name in grid.known if grid.runs_on(BASES[-1], name)):
        if chosen := Experiment(grid, dataset, BASES[-1]).chosen(ledger):
            columns[f"on record, {grid.label(dataset, whole=False)}"] = columns["the preset"] | chosen
    table = pd.DataFrame(columns).loc[list(columns["the preset"])].rename_axis("key").reset_index()
    return table.map(lambda value: str(value).lower())


def parts(grid: Grid, ledger: Ledger, base: str) -> pd.DataFrame:
    """What each part of a base is worth: validation NDCG@5 of the row that differs in it alone against the base's, in
    percent, over the seeds of both, where they are on record; columns part, protocol, seeds, change %, low, high."""
    rows = []
    for name in (name for name in grid.rows if name.startswith(f"{base}.")):
        pair = Experiment(grid, DATASET, name), Experiment(grid, DATASET, base)
        if not all(one.recorded(ledger) for one in pair):
            continue
        files = paired_seeds(*pair, ledger)
        for protocol, part in PARTS.items():
            after, before = (ledger.by_file.loc[list(side), f"{part}.ndcg@5"].to_numpy() for side in zip(*files))
            one = seed_change(before, after)
            rows.append((name.partition(".")[2], protocol, len(files), one.estimate, one.low, one.high))
    return pd.DataFrame(rows, columns=["part", "protocol", "seeds", "change %", "low", "high"])


def cures(grid: Grid, ledger: Ledger) -> pd.DataFrame:
    """What the pool gains over each reference, beside how much that memorised: `changes` with a column memorised, %.

    Memorised is what of the best validation NDCG@5 with the history dropped is lost by the epoch that was kept, which
    is the best with all items ranked; mean over seeds.
    """
    table = changes(grid, {base: (row, base) for base, row in ALIGNED.items()}, ledger, grid.known)
    memorised = {}
    for dataset, base in table[["dataset", "before"]].drop_duplicates().itertuples(index=False):
        records = [Record.read(ledger.folder / f) for f in Experiment(grid, dataset, base).recorded(ledger).values()]
        memorised[dataset, base] = float(np.mean([_lost(record) for record in records]))
    where = zip(table["dataset"], table["before"], strict=True)
    return table.assign(**{"memorised, %": [memorised[one] for one in where]})


def trained_longer(grid: Grid, ledger: Ledger) -> pd.DataFrame:
    """What the pool gains on references that were trained for less and for longer: `changes` over each reference and
    over more training, with columns reference, epochs (until it was kept) and excess, by how many nats the loss on
    validation is above that in training; both are means over seeds."""
    tables = []
    for reference, (pool, more) in LONGER.items():
        pairs = {"over its reference": (pool, reference), "over more training": (pool, more)}
        table = changes(grid, pairs, ledger, grid.known)
        for dataset, part in table.groupby("dataset"):
            records = [
                Record.read(ledger.folder / f) for f in Experiment(grid, dataset, reference).recorded(ledger).values()
            ]
            kept = [(one, one.curve[one.best_epoch - 1]) for one in records]
            excess = np.mean([line["valid_loss"] - line["loss"] for _, line in kept])
            epochs = np.mean([record.best_epoch for record, _ in kept])
            tables.append(part.assign(reference=reference, epochs=epochs, excess=excess))
    columns = ["reference", "epochs", "excess", "dataset", "what", "protocol", "change", "low", "high"]
    found = pd.concat(tables).rename(columns={"change %": "change"}) if tables else pd.DataFrame(columns=columns)
    return found[columns]


def trained(grid: Grid, ledger: Ledger) -> pd.DataFrame:
    """`quality` of the rows of LONGER, and of the references, without the deviation."""
    rows = [row for reference, aligned in LONGER.items() for row in (reference, *aligned)]
    found = quality(grid, ledger).query("dataset in @grid.real").set_index("row")
    return found.loc[[row for row in rows if row in found.index]].reset_index().drop(columns=["deviation", "dataset"])


def plainer(grid: Grid, ledger: Ledger) -> tuple[pd.DataFrame, pd.DataFrame]:
    """What plainer ways to memorise less do, where they have run: `changes` of the pool and of each way over their
    reference, and of the pool over each way (`rivals` in workflow/interventions.yaml)."""
    question = interventions.read(grid)["rivals"]
    reference = question.gap[1]
    ways = {what: (way, reference) for what, (_, way) in question.instead.items()}
    ahead = changes(grid, question.instead, ledger, grid.known)
    over = changes(grid, {"the pool": question.gap} | ways, ledger, ahead["dataset"].unique()) if len(ahead) else ahead
    return over, ahead


def as_good(grid: Grid, ledger: Ledger) -> list[dict[str, Any]]:
    """Of `plainer`, the ways that gain for sure in every protocol and of which the pool is in none for sure ahead: the
    dataset, what, the settings that were chosen for it, and the lines of both tables, gains and left."""
    (over, ahead), found = plainer(grid, ledger), []
    for (dataset, what), left in ahead.groupby(["dataset", "what"], sort=False):
        gains = over[(over["dataset"] == dataset) & (over["what"] == what)]
        if (gains["low"] > 0).all() and (left["low"] <= 0).all():
            way = Experiment(grid, dataset, left["before"].iloc[0])
            settings = {key: (way.chosen(ledger) or {}).get(key) for key in grid.rows[way.name].search}
            lines = {"gains": gains.to_dict("records"), "left": left.to_dict("records")}
            found.append({"dataset": grid.label(dataset), "what": what, "settings": settings} | lines)
    return found


def _lost(record: Record) -> float:
    """Percent of the best validation NDCG@5 with the history dropped that a reference has lost where it was kept."""
    dropped = {line["epoch"]: line["valid_masked.ndcg@5"] for line in record.curve}
    return 100 * (1 - dropped[record.best_epoch] / max(dropped.values()))


def goes_with(points: pd.DataFrame, draws: int = 9999) -> dict[str, dict[str, float]]:
    """Whether the pool gains more where more was memorised, within datasets, by protocol: `correlation` of the ranks,
    `p` of as large a one, in either direction, if references change places within their datasets, and `references`."""
    found, random = {}, np.random.default_rng(0)
    several = points[points.groupby(["protocol", "dataset"])["before"].transform("size") > 1]
    for protocol, part in several.sort_values("dataset").groupby("protocol", sort=False):
        by_dataset = part.groupby("dataset")
        ranks = by_dataset[["memorised, %", "change %"]].rank(pct=True)
        memorised, gains = (ranks - ranks.groupby(part["dataset"]).transform("mean")).to_numpy().T
        places = (by_dataset.ngroup().to_numpy() + random.random((draws, len(part)))).argsort(1)
        size = np.sqrt((memorised @ memorised) * (gains @ gains))
        if size > 0:
            correlation, by_chance = memorised @ gains / size, memorised[places] @ gains / size
            p = (1 + (np.abs(by_chance) >= abs(correlation) - 1e-9).sum()) / (1 + draws)
            found[protocol] = {"correlation": correlation, "p": p, "references": len(part)}
    return found
