"""What a row of the grid changes over the reference, over other rows and over plain baselines, and for whom."""

from collections.abc import Iterable
from itertools import product

import numpy as np
import pandas as pd

from companion.evidence.comparison import DROPPED, RANKED, arms, changes, crossed, given_up, paired_seeds
from companion.evidence.grid import Experiment, Grid
from companion.evidence.ledger import PROTOCOLS, Ledger
from rodpo_lite.evaluation.statistics import Interval, crossed_change, signed

TOWERS = "towers_"  # what the names of the alignments on the base with towers begin with
ALIGNMENTS = ("none", "uniform", "topk", "hard", "topk_on_moe")  # what is held against the reference
MODELS = ("fused", "topk", "towers", "towers_topk")  # what is held against plain baselines
POPULARITY, TENTHS = "popularity", 10
SHOWN = [(row, POPULARITY, TENTHS) for row in ("topk", "hard", "none")] + [("topk", "history", 5)]


def ranked(table: pd.DataFrame) -> pd.DataFrame:
    """Of a table of changes those with all items ranked."""
    return table[table["protocol"] == RANKED]


def labelled(grid: Grid, table: pd.DataFrame) -> pd.DataFrame:
    """A table with the datasets' names for readers."""
    return table.assign(dataset=table["dataset"].map(grid.label))


def texts(table: pd.DataFrame) -> list[str]:
    """Each change of a table with its interval, without a unit."""
    return [Interval(*values).text(1, "") for values in table[["change %", "low", "high"]].to_numpy()]


def _by_dataset(grid: Grid, table: pd.DataFrame, line: str) -> pd.DataFrame:
    """The column `text` as cells: a line for each value of the column `line`, a column for each dataset."""
    cells = table.pivot(index=line, columns="dataset", values="text").reindex(table[line].unique())
    columns = [f"{grid.label(name)}{end}" for end in ("", ", dropped") for name in grid.real]
    return cells[[name for name in columns if name in cells]].rename_axis(index=line, columns=None)


def _reference(grid: Grid, row: str) -> str | None:
    return grid.rows[row].reference if row in grid.rows else None


def against_the_reference(grid: Grid, ledger: Ledger, prefix: str = "") -> pd.DataFrame:
    """What each rejected item does to NDCG@5 of test, all items ranked: a line for each row, a column for each dataset.

    prefix: "" or TOWERS. Cells are percent of the reference without a mixture, with a 95 % interval and no unit.
    """
    rows = [f"{prefix}{name}" for name in ALIGNMENTS]
    pairs = [(row, _reference(grid, f"{prefix}topk")) for row in rows]
    table = labelled(grid, changes(grid, pairs, ledger, protocols=[RANKED])).rename(columns={"after": "rejected"})
    cells = _by_dataset(grid, table.assign(text=texts(table)), "rejected")
    return cells.loc[[row for row in rows if row in cells.index]]


def where_the_reference_may_stay(grid: Grid, ledger: Ledger) -> pd.DataFrame:
    """What is left of the pool against the hardest item if an alignment must validate better than its reference.

    Three lines for each base, a column for each dataset that has run; NDCG@5 of test, all items ranked.
    """
    pairs = [(f"{prefix}topk", f"{prefix}hard") for prefix in ("", TOWERS)]
    table, cells = changes(grid, pairs, ledger, protocols=[RANKED], or_reference=True), []
    for row in table.assign(left=texts(table)).itertuples():
        dataset, always = grid.label(row.dataset), True
        for experiment in (Experiment(grid, row.dataset, row.before), Experiment(grid, row.dataset, row.after)):
            times, seeds = given_up(experiment, ledger), len(experiment.seeds)
            always &= times == seeds
            cells.append((f"`{experiment.name}` validates no better in", dataset, f"{times} of {seeds} seeds"))
        left = "the reference on both sides" if always else row.left
        cells.append((f"what is left of `{row.after}` over `{row.before}`, %", dataset, left))
    line = "if the reference may stay"
    return _by_dataset(grid, pd.DataFrame(cells, columns=[line, "dataset", "text"]), line)


def signs(grid: Grid, pairs: Iterable[tuple[str, str]], ledger: Ledger) -> pd.DataFrame:
    """Each pair of rows (after, before) in a line: the change on every dataset, all items ranked, then history dropped.

    ▲ the 95 % interval lies above zero, ▼ below it, ○ zero is inside; percent of NDCG@5 of test.
    """
    table = labelled(grid, changes(grid, pairs, ledger))
    marks = np.select([table["low"] > 0, table["high"] < 0], ["▲", "▼"], "○")
    text = [f"{mark}\u00a0{signed(change, 1)}" for mark, change in zip(marks, table["change %"], strict=True)]
    datasets = table["dataset"] + np.where(table["protocol"] == RANKED, "", ", dropped")
    pair = "`" + table["after"] + "` over `" + table["before"] + "`"
    return _by_dataset(grid, table.assign(pair=pair, dataset=datasets, text=text), "pair")


def other_sign(*parts: pd.DataFrame) -> pd.DataFrame:
    """Pairs in these tables of changes whose change has another sign under the other protocol: a column for each."""
    both = pd.concat(parts).drop_duplicates(["dataset", "protocol", "change %", "low"])  # runs may have two names
    both = both.assign(pair=both["after"] + " over " + both["before"])
    both = both.pivot(index=["dataset", "pair"], columns="protocol", values="change %")
    return both[both[RANKED] * both[DROPPED] < 0]


def steps(grid: Grid, table: pd.DataFrame) -> dict[str, dict[str, dict[tuple[str, str], dict]]]:
    """A table of changes, all items ranked, by dataset and pair."""
    table = ranked(table).set_index(["after", "before"])
    return {"datasets": {grid.label(on): table[table["dataset"] == on].to_dict("index") for on in grid.real}}


def replication(table: pd.DataFrame) -> dict[str, int]:
    """Of a table of changes with a column `set`, how many of the second set's lie inside the first's interval, how many
    are sure, their interval leaving zero out, and of these how many have the first's sign; both protocols counted."""
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

    `its`: NDCG@5 of the baseline, the same for every seed: only those of the row vary, crossed with the users. A row
    that lacks a seed is left out. Raises InputError if the two were computed on different editions of the dataset.
    """
    lines, plain = [], ledger.records[ledger.records["stage"] == "baseline"]
    for dataset, (protocol, column) in product(grid.real, PROTOCOLS.items()):
        known, end = plain[plain["dataset"] == dataset], column.removeprefix("rank")
        if known.empty:
            continue
        best = known.loc[known[f"valid{end}.ndcg@5"].idxmax()]
        for experiment in _running(grid, dataset, rows):
            files = experiment.recorded(ledger)
            if set(experiment.seeds) <= files.keys():
                ledger.check_one_edition([best["file"], *files.values()])
                one = crossed([(files[seed], best["file"]) for seed in experiment.seeds], ledger, column)
                line = grid.label(dataset), protocol, best["strategy"], best[f"test{end}.ndcg@5"], experiment.name
                lines.append((*line, one.estimate, one.low, one.high))
    columns = ["dataset", "protocol", "baseline", "its", "row", "change %", "low", "high"]
    return pd.DataFrame(lines, columns=columns)


def _running(grid: Grid, dataset: str, rows: Iterable[str | None]) -> list[Experiment]:
    return [Experiment(grid, dataset, row) for row in rows if row in grid.rows and grid.runs_on(row, dataset)]


def contributions(grid: Grid, ledger: Ledger, cases: Iterable[tuple[str, str | None, str, int]]) -> pd.DataFrame:
    """What each group of users adds to a change, all items ranked, on every real dataset where both rows have runs.

    cases: row, the other one, by what users are put into groups, and into how many of about the same size: popularity
    (of the test item) or history (items before it). `group` counts from 1, the lowest; percent are of the mean over all
    users before, so that contributions add up to the whole change.
    """
    lines = []
    for (after, before, by, groups), dataset in product(cases, grid.real):
        sides = _running(grid, dataset, (after, before))
        files = paired_seeds(*sides, ledger) if len(sides) == 2 else []
        if not files:
            continue
        first, second = arms(files, ledger)
        values = ledger.users(dataset)[by]
        group = in_groups(values, groups)
        for number, members in values.groupby(group):
            one = crossed_change(first, np.where(group == number, second, first))
            line = after, before, by, dataset, int(number) + 1, len(members), members.min(), members.max()
            lines.append((*line, one.estimate, one.low, one.high))
    columns = ["row", "other", "by", "dataset", "group", "users", "from", "to", "change %", "low", "high"]
    return pd.DataFrame(lines, columns=columns)


def in_groups(values: pd.Series, groups: int) -> pd.Series:
    """Number of each user's group, from 0, the lowest: so many groups of about the same size, equal values together."""
    return pd.qcut(values, groups, labels=False, duplicates="drop")


def of_groups(grid: Grid, ledger: Ledger) -> pd.DataFrame:
    """`contributions` to the change over the reference for each of SHOWN."""
    cases = [(row, _reference(grid, row), by, count) for row, by, count in SHOWN]
    return contributions(grid, ledger, cases).drop(columns="other")


def popular(grid: Grid, ledger: Ledger, others: Iterable[str] = ("hard", "hard_as_topk")) -> dict[str, pd.DataFrame]:
    """How much of what `topk` has over other rows lies with users whose next item is of the most popular tenth.

    shares: the change of that tenth, `all` (the whole change), and `share` of it, 0 where the whole is no gain.
    """
    table = contributions(grid, ledger, [("topk", other, POPULARITY, TENTHS) for other in others])
    parts = table.groupby(["other", "dataset"], sort=False)
    shares = parts.tail(1).assign(all=parts["change %"].transform("sum"))
    shares["share"] = np.where(shares["all"] > 0, shares["change %"] / shares["all"], 0.0)
    return {"shares": labelled(grid, shares)}
