"""What a row of the grid changes over another: over the reference, over other rows, and over plain baselines."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from companion.evidence.comparison import changes, complete_pairs, crossed, given_up, paired_seeds
from companion.evidence.grid import Experiment, Grid
from companion.evidence.ledger import PROTOCOLS, Ledger
from rodpo_lite.evaluation.statistics import Interval, signed

TOWERS = "towers_"  # what the names of the alignments on the base with towers begin with
ALIGNMENTS = ("none", "uniform", "topk", "hard", "topk_on_moe")  # what is held against the reference
MODELS = ("fused", "topk", "towers", "towers_topk")  # what is held against plain baselines
RANKED = "all items"


def labelled(
    grid: Grid, ledger: Ledger, pairs: dict[str, tuple[str, str]], datasets: Iterable[str] = (),
    or_reference: bool = False,
) -> pd.DataFrame:  # fmt: skip
    """`changes` of pairs of rows (after, before) of which every seed is on record, `what` being the label of each pair.

    datasets: by default those in which nothing is hidden.
    """
    table = changes(grid, pairs.values(), ledger, datasets or grid.real, or_reference)
    table, label = complete_pairs(grid, table), {pair: name for name, pair in pairs.items()}
    table.insert(1, "what", [label[pair] for pair in zip(table["after"], table["before"], strict=True)])
    return table


def named(pairs: Iterable[tuple[str, str]]) -> dict[str, tuple[str, str]]:
    """Pairs of rows (after, before) by the label "after over before"."""
    return {f"{after} over {before}": (after, before) for after, before in pairs}


def ranked(table: pd.DataFrame) -> pd.DataFrame:
    """Of a table of changes those with all items ranked, `change %` being called `change`."""
    return table[table["protocol"] == RANKED].rename(columns={"change %": "change"})


def texts(table: pd.DataFrame) -> list[str]:
    """Each change of a table with its interval, without a unit."""
    return [Interval(*values).text(1, "") for values in table[["change %", "low", "high"]].to_numpy()]


def _labelled(grid: Grid, ledger: Ledger, pairs: Iterable[tuple[str, str]], protocol: str = RANKED) -> pd.DataFrame:
    """`labelled` under one protocol, with the datasets' names for readers."""
    table = labelled(grid, ledger, named(pairs))
    table = table[table["protocol"] == protocol]
    return table.assign(dataset=table["dataset"].map(grid.label))


def _by_dataset(grid: Grid, table: pd.DataFrame, line: str) -> pd.DataFrame:
    """The column `text` as cells: a line for each value of the column `line`, a column for each dataset."""
    cells = table.pivot(index=line, columns="dataset", values="text").reindex(table[line].unique())
    columns = [f"{grid.label(name)}{end}" for end in ("", ", dropped") for name in grid.real]
    return cells[[name for name in columns if name in cells]].rename_axis(index=line, columns=None)


def against_the_reference(grid: Grid, ledger: Ledger, prefix: str = "") -> pd.DataFrame:
    """What each rejected item does to NDCG@5 of test, all items ranked: a line for each row, a column for each dataset.

    prefix: "" or TOWERS. Cells are percent of the reference without a mixture, with a 95 % interval and no unit.
    """
    rows = [f"{prefix}{name}" for name in ALIGNMENTS if f"{prefix}{name}" in grid.rows]
    table = _labelled(grid, ledger, [(row, grid.rows[f"{prefix}topk"].reference) for row in rows])
    table = table.rename(columns={"after": "rejected"})
    cells = _by_dataset(grid, table.assign(text=texts(table)), "rejected")
    return cells.loc[[row for row in rows if row in cells.index]]


def with_history_dropped(grid: Grid, ledger: Ledger, prefix: str = "") -> dict[str, pd.DataFrame]:
    """What the pool does to NDCG@5 of test when the user's own items are not ranked; prefix as above.

    changes: against (hard, reference or none), dataset, change %, low, high, and more.
    """
    topk = f"{prefix}topk"
    if topk not in grid.rows:
        return {"changes": pd.DataFrame()}
    before = {f"{prefix}hard": "hard", grid.rows[topk].reference: "reference", f"{prefix}none": "none"}
    parts = [
        _labelled(grid, ledger, [(topk, row)], "history dropped").assign(against=name)
        for row, name in before.items()
        if row in grid.rows
    ]
    return {"changes": pd.concat(parts)}


def where_the_reference_may_stay(grid: Grid, ledger: Ledger) -> pd.DataFrame:
    """What is left of the pool against the hardest item if an alignment must validate better than its reference.

    Three lines for each base: in how many seeds `hard`, and the pool, validate no better than the reference that they
    started from; and the change of NDCG@5 of test, all items ranked. A column for each dataset that has run.
    """
    cells = []
    for hard, topk in (("hard", "topk"), (f"{TOWERS}hard", f"{TOWERS}topk")):
        if not {hard, topk} <= grid.rows.keys():
            continue
        table = labelled(grid, ledger, named([(topk, hard)]), or_reference=True)
        table = table[table["protocol"] == RANKED]
        for name, left in zip(table["dataset"], texts(table), strict=True):
            dataset, always = grid.label(name), True
            for experiment in (Experiment(grid, name, hard), Experiment(grid, name, topk)):
                times, seeds = given_up(experiment, ledger), len(experiment.seeds)
                always &= times == seeds
                cells.append((f"`{experiment.name}` validates no better in", dataset, f"{times} of {seeds} seeds"))
            left = "the reference on both sides" if always else left
            cells.append((f"what is left of `{topk}` over `{hard}`, %", dataset, left))
    line = "if the reference may stay"
    return _by_dataset(grid, pd.DataFrame(cells, columns=[line, "dataset", "text"]), line)


def signs(grid: Grid, pairs: Iterable[tuple[str, str]], ledger: Ledger) -> pd.DataFrame:
    """Each pair of rows (after, before) in a line: the change on every dataset, all items ranked, then history dropped.

    ▲ the 95 % interval lies above zero, ▼ below it, ○ zero is inside; percent of NDCG@5 of test.
    """
    table = labelled(grid, ledger, named(pairs))
    marks = np.select([table["low"] > 0, table["high"] < 0], ["▲", "▼"], "○")
    text = [f"{mark}\u00a0{signed(change, 1)}" for mark, change in zip(marks, table["change %"], strict=True)]
    datasets = table["dataset"].map(grid.label) + np.where(table["protocol"] == RANKED, "", ", dropped")
    pair = "`" + table["after"] + "` over `" + table["before"] + "`"
    return _by_dataset(grid, table.assign(pair=pair, dataset=datasets, text=text), "pair")


def other_sign(*parts: pd.DataFrame) -> pd.DataFrame:
    """Pairs in these tables of changes whose change has another sign under the other protocol: a column for each."""
    both = pd.concat(parts).drop_duplicates(["dataset", "protocol", "change %", "low"])  # runs may have two names
    both = both.assign(pair=both["after"] + " over " + both["before"])
    both = both.pivot(index=["dataset", "pair"], columns="protocol", values="change %")
    return both[both["all items"] * both["history dropped"] < 0]


def others(grid: Grid, table: pd.DataFrame) -> dict[str, Any]:
    """Of a table of changes over one row, all items ranked: how many intervals, how many of them leave zero out, and
    which rows are ahead and behind on each dataset."""
    table, datasets = table[table["protocol"] == RANKED], []
    for dataset, part in table.groupby("dataset", sort=False):
        sides = {"ahead": part[part["low"] > 0], "behind": part[part["high"] < 0]}
        rows = {side: rows.to_dict("records") for side, rows in sides.items()}
        datasets.append({"dataset": grid.label(dataset)} | rows)
    sure = sum(len(line["ahead"]) + len(line["behind"]) for line in datasets)
    return {"intervals": len(table), "sure": sure, "datasets": datasets}


def steps(grid: Grid, table: pd.DataFrame) -> dict[str, dict[str, dict[tuple[str, str], dict]]]:
    """Of a table of changes, all items ranked, by dataset and pair; none where those of `topk` have not all run."""
    table, datasets = table[table["protocol"] == RANKED], {}
    for dataset in grid.real:
        rows = table[table["dataset"] == dataset].to_dict("records")
        pairs = {(row["after"], row["before"]): row for row in rows}
        complete = {("topk", "fused"), ("topk", "none"), ("topk", "hard")} <= pairs.keys()
        datasets[grid.label(dataset)] = pairs if complete else {}
    return {"datasets": datasets}


def replication(table: pd.DataFrame) -> dict[str, int]:
    """Of a table of changes with a column `set`, how the second set stands to the first, both protocols counted.

    changes; how many of the second lie inside the first's interval; how many are sure, their interval leaving zero
    out, and of these how many have the first's sign.
    """
    first, second = (part.set_index(["what", "protocol"]) for _, part in table.groupby("set", sort=False))
    first = first.reindex(second.index)
    sure = (second["low"] > 0) | (second["high"] < 0)
    same = second["change %"] * first["change %"] > 0
    inside = second["change %"].between(first["low"], first["high"])
    return {"changes": len(second), "inside": inside.sum(), "sure": sure.sum(), "same_sign": (sure & same).sum()}


def with_more_seeds(grid: Grid, pair: tuple[str, str], ledger: Ledger) -> tuple[str, pd.DataFrame]:
    """The dataset on which a pair has most seeds, and its change with the first seed, the first two, and so on."""
    paired = {name: paired_seeds(*(Experiment(grid, name, row) for row in pair), ledger) for name in grid.real}
    dataset, files = max(paired.items(), key=lambda item: len(item[1]))
    growing = [crossed(files[:n], ledger) for n in range(1, len(files) + 1)]
    rows = [(n, row.estimate, (row.high - row.low) / 2, row.freedom) for n, row in enumerate(growing, 1)]
    return dataset, pd.DataFrame(rows, columns=["seeds", "change %", "half width", "degrees of freedom"])


def over_baselines(grid: Grid, ledger: Ledger, rows: Iterable[str] = MODELS) -> pd.DataFrame:
    """Change of test NDCG@5 from the baseline that validates best to each row, on every real dataset and protocol.

    A row that lacks a seed is left out. A baseline is the same for every seed: only those of the row vary, crossed with
    the users. Columns dataset, protocol, baseline, its (NDCG@5), row, change %, low, high. Raises InputError if the two
    were computed on different editions of the dataset.
    """
    lines, plain = [], ledger.records[ledger.records["stage"] == "baseline"]
    for dataset, known in ((name, plain[plain["dataset"] == name]) for name in grid.real):
        declared = [Experiment(grid, dataset, row) for row in rows if row in grid.rows and grid.runs_on(row, dataset)]
        for protocol, column in PROTOCOLS.items() if len(known) else ():
            end = column.removeprefix("rank")
            best = known.loc[known[f"valid{end}.ndcg@5"].idxmax()]
            for experiment in declared:
                files = experiment.recorded(ledger)
                if not set(experiment.seeds) <= files.keys():
                    continue
                ledger.check_one_edition([best["file"], *files.values()])
                one = crossed([(files[seed], best["file"]) for seed in experiment.seeds], ledger, column)
                line = grid.label(dataset), protocol, best["strategy"], best[f"test{end}.ndcg@5"], experiment.name
                lines.append((*line, one.estimate, one.low, one.high))
    columns = ["dataset", "protocol", "baseline", "its", "row", "change %", "low", "high"]
    return pd.DataFrame(lines, columns=columns)


def baselines_ahead(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Where a baseline of `over_baselines` is ahead by its interval, and what cannot be told apart from it there."""
    lines = []
    for (dataset, protocol, name), part in table.groupby(["dataset", "protocol", "baseline"], sort=False):
        behind, ahead = part["high"] < 0, part["low"] > 0
        if behind.any():
            rows = {"behind": part.loc[behind, "row"].tolist(), "alike": part.loc[~behind & ~ahead, "row"].tolist()}
            lines.append({"dataset": dataset, "protocol": protocol, "baseline": name} | rows)
    return lines
