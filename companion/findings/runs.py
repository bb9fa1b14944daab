"""How the recorded runs were made: inputs, pools, precision, and references that were trained once more."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import chi2

from companion.evidence.claims import Claim
from companion.evidence.comparison import changes, complete, paired_seeds, quality
from companion.evidence.grid import Experiment, Grid
from companion.evidence.ledger import FOLDER, Ledger
from companion.evidence.plan import repeated
from companion.findings.names import NAMES
from rodpo_lite.evaluation.statistics import seed_mean

PUBLISHED, AGAIN = FOLDER.parent / "published.csv", FOLDER.parent / "again"
MARK = "†"


def setup(grid: Grid, claims: Iterable[Claim], ledger: Ledger) -> dict[str, Any]:
    """How it was done: sizes of the model, epochs, how many rows, trials and runs, and other facts of this module."""
    carried = [(on, name) for name, row in grid.rows.items() for on in sorted(set(row.tuned_on.values()))]
    carried = [{"dataset": grid.label(on), "row": name} for on, name in carried]
    reference, alignment = (Experiment(grid, grid.real[0], name).config({}, 1) for name in ("fused", "topk"))
    facts = {"encoder": reference.encoder, "reference": reference.training, "alignment": alignment.training}
    facts |= {"declared": len(grid.rows), "tuned": sum(bool(row.search) for row in grid.rows.values())}
    facts |= {"trials": grid.tuning.trials, "carried": carried, "recorded": len(ledger.records)}
    facts |= inputs(grid, ledger) | pool(grid, ledger)
    return facts | precisions(grid, claims, ledger) | marked(grid, ledger)


def sizes(grid: Grid, ledger: Ledger) -> pd.DataFrame:
    """Users, items and interactions of each real dataset on record."""
    records = ledger.records.drop_duplicates("dataset").set_index("dataset")
    columns = {f"n_{what}": what for what in ("users", "items", "interactions")}
    table = records.loc[[name for name in grid.real if name in records.index], list(columns)].rename(columns=columns)
    table["interactions per user"] = (table["interactions"] / table["users"]).round(1)
    return table.rename(index=grid.label).rename_axis("dataset")


def quality_tables(grid: Grid, table: pd.DataFrame, ledger: Ledger) -> dict[str, pd.DataFrame]:
    """`quality` of every real dataset as readers see it, sweeps left out, the best on test first."""
    swept = {name for name, row in grid.rows.items() if row.tier == "C"}
    names = {"validation": "valid", "test": "test ± its deviation", "test_masked": "test, history dropped"}
    table = table[table["dataset"].isin(grid.real) & ~table["row"].isin(swept)]
    table = table.sort_values("test", ascending=False, kind="stable")
    keys, elsewhere = list(zip(table["dataset"], table["row"], strict=True)), began_elsewhere(grid, ledger)
    written = {column: table[column].map("{:.4f}".format) for column in names}
    written["test"] += table["deviation"].map(" ± {:.4f}".format).where(table["seeds"] > 1, "")
    written["row"] = [f"{key[1]} {MARK}" if key in elsewhere else key[1] for key in keys]
    table = table.assign(**written).drop(columns=["validation_masked", "deviation"]).rename(columns=names)
    parts = dict(list(table.groupby("dataset")))
    return {dataset: parts[dataset].drop(columns="dataset") for dataset in grid.real if dataset in parts}


def beside_published(grid: Grid, table: pd.DataFrame) -> pd.DataFrame:
    """Numbers of others as they were published, and ours of `quality` under both protocols."""
    published, table = pd.read_csv(PUBLISHED), complete(grid, table)
    ours = [
        {"system": label, "inputs": "IDs, text; images where there are any", "history": history, "origin": "run ledger"}
        | table[table["row"] == name].set_index("dataset")[column].to_dict()
        for name, label in NAMES["systems"].items()
        for column, history in (("test_masked", "dropped"), ("test", "ranked"))
    ]
    return pd.concat([published, pd.DataFrame(ours)])[published.columns]


def beside_hm4sr(grid: Grid, table: pd.DataFrame) -> dict[str, Any]:
    """What HM4SR is quoted with on Sports, and our references there, with their change from it in %."""
    published = pd.read_csv(PUBLISHED).set_index("system")
    quoted, table = published.loc["HM4SR", "sports"], complete(grid, table)
    rows = table[(table["dataset"] == "sports") & table["row"].isin(["fused", "towers"])]
    return {"quoted": quoted, "rows": rows.assign(change=100 * (rows["test"] / quoted - 1))}


def inputs(grid: Grid, ledger: Ledger) -> dict[str, Any]:
    """The modalities that the items of each dataset come with."""
    known = ledger.records.drop_duplicates("dataset").set_index("dataset")["modalities"]
    return {"inputs": [{"dataset": grid.label(on), "modalities": known[on]} for on in grid.real if on in known]}


def pool(grid: Grid, ledger: Ledger, prefix: str = "") -> dict[str, Any]:
    """How many items the pool of `topk` holds, the sizes tried, and the datasets that it was tuned on, if not on each.

    prefix: "" or TOWERS.
    """
    items, pools = ledger.records.drop_duplicates("dataset").set_index("dataset")["n_items"], []
    for dataset in grid.real:
        chosen = Experiment(grid, dataset, f"{prefix}topk").chosen(ledger) if dataset in items else None
        if chosen and "negatives.k" in chosen:
            pools.append({"size": chosen["negatives.k"], "dataset": grid.label(dataset), "items": items[dataset]})
    if not pools:
        return {"pools": []}
    row = grid.rows[f"{prefix}topk"]
    sources = sorted({row.tuned_on.get(dataset, dataset) for dataset in grid.real})
    few = [grid.label(source) for source in sources] if len(sources) < len(grid.real) else []
    return {"pools": pools, "tried": sorted(row.search["negatives.k"]), "sources": few}


def ranks_drawn(grid: Grid, ledger: Ledger, rows: Iterable[str] = ("topk", "rank_window", "window_as_topk")) -> dict:
    """Of each real dataset, the rows with a pool and the ranks that they draw from, the best being 1."""
    windows = []
    for dataset in grid.real:
        ranks = []
        for name in rows:
            experiment = Experiment(grid, dataset, name)
            if grid.runs_on(name, dataset) and (settings := experiment.chosen(ledger)) is not None:
                negatives = experiment.config(settings, 0).negatives
                skip = negatives.skip if negatives.name == "rank_window" else 0
                ranks.append((name, skip + 1, skip + negatives.k))
        windows += [{"dataset": grid.label(dataset), "rows": tuple(ranks)}] * bool(ranks)
    return {"windows": windows}


def precisions(grid: Grid, claims: Iterable[Claim], ledger: Ledger) -> dict[str, Any]:
    """In what precision products were computed: usually, elsewhere, and in which pairs of claims both sides differ."""
    by_file = ledger.by_file["precision"].dropna()
    if by_file.empty:
        return {"usual": None}
    usual, rows = by_file.mode()[0], {}
    for experiment in grid.experiments(grid.real):
        for precision in sorted(set(by_file.reindex(experiment.recorded(ledger).values()).dropna()) - {usual}):
            rows.setdefault((precision, grid.label(experiment.dataset)), []).append(experiment.name)
    others = [{"precision": kind, "dataset": on, "rows": tuple(names)} for (kind, on), names in rows.items()]
    divided = []
    for after, before in sorted({member for claim in claims for member in claim.members(grid)}):
        files = paired_seeds(after, before, ledger)
        if any(by_file.get(one) != by_file.get(other) for one, other in files):
            divided.append({"after": after.name, "before": before.name, "dataset": grid.label(after.dataset)})
    return {"usual": usual, "others": others, "divided": divided}


def began_elsewhere(grid: Grid, ledger: Ledger, datasets: Iterable[str] = ()) -> list[tuple[str, str]]:
    """Dataset and row of alignments whose runs began at another reference of the same settings than that on record."""
    runs = _alignments(grid, ledger, datasets)
    began = runs["file"].map(ledger.by_file["reference_weights"])
    elsewhere = (runs["place"] == 0) & began.notna() & ~began.isin(ledger.records["weights"])
    return list(runs.loc[elsewhere, ["dataset", "row"]].drop_duplicates().itertuples(index=False, name=None))


def _alignments(grid: Grid, ledger: Ledger, datasets: Iterable[str] = ()) -> pd.DataFrame:
    """Runs from a reference, of rows with the same runs the first; of a seed's files the one at place 0 counts."""
    rows = [
        (experiment.dataset, experiment.name, seed, place, file)
        for experiment in grid.experiments(tuple(datasets or grid.real))
        if experiment.reference
        for seed, files in experiment.candidates(ledger).items()
        for place, file in enumerate(files)
    ]
    runs = pd.DataFrame(rows, columns=["dataset", "row", "seed", "place", "file"])
    again = runs["file"].duplicated().groupby([runs["dataset"], runs["row"]]).transform("any")
    return runs[~again.astype(bool)]


def marked(grid: Grid, ledger: Ledger) -> dict[str, Any]:
    """How many rows of which dataset `began_elsewhere`, sweeps left out, and how many of them on which accelerators."""
    rows = [(dataset, row) for dataset, row in began_elsewhere(grid, ledger) if grid.rows[row].tier != "C"]
    counts = Counter(grid.label(dataset) for dataset, _ in rows)
    files = [next(iter(Experiment(grid, *row).recorded(ledger).values())) for row in rows]
    return {"mark": MARK, "counts": counts} | _accelerators(ledger, files)


def _accelerators(ledger: Ledger, files: list[str]) -> dict[str, Any]:
    known = ledger.by_file["accelerator"].reindex(files).dropna()
    return {"of": len(files), "on_gpu": len(known), "accelerators": sorted(set(known))}


def moves(grid: Grid, ledger: Ledger) -> pd.DataFrame:
    """Runs on record once more, from references trained apart: change of test NDCG@5 against the run that counts."""
    runs = _alignments(grid, ledger)
    score = runs["file"].map(ledger.by_file["test.ndcg@5"])
    first = score.groupby([runs["dataset"], runs["row"], runs["seed"]]).transform("first")
    return runs.assign(**{"change %": 100 * (score / first - 1)})[runs["place"] > 0].drop(columns="place")


def repeats(grid: Grid, ledger: Ledger, folder: Path = AGAIN) -> list[dict[str, Any]]:
    """Rows that were computed once more with `--again`, from the ledgers in a folder, each called by its day.

    Each: day, datasets, `runs`, the test NDCG@5 of every run on record and again, and `gains`, what every alignment
    changes over its reference in each protocol, again and on record.
    """
    found = []
    for path in sorted(folder.glob("*-*-*")):
        again = Ledger.open(path)
        experiments, seen = [], set()
        for one in grid.experiments(tuple(grid.known)):
            files = set(one.recorded(again).values())
            if files and seen.isdisjoint(files):  # else its runs are those of another row
                experiments.append(one)
                seen |= files
        pairs = [(one.name, one.reference.name) for one in experiments if one.reference]
        datasets = sorted({one.dataset for one in experiments})
        now, before = (changes(grid, pairs, source, datasets) for source in (again, ledger))
        gains = now.merge(before, on=["dataset", "what", "after", "before", "protocol"], suffixes=("", " on record"))
        runs = repeated(experiments, ledger, again)
        found.append({"day": path.name, "datasets": [*map(grid.label, datasets)], "runs": runs, "gains": gains})
    return found


def how_far(grid: Grid, ledger: Ledger) -> dict[str, Any]:
    """`moves` in numbers, where there are two: the mean move and its deviation, with intervals.

    apart: the deviation of the difference of two seeds in these rows, %.
    """
    table = moves(grid, ledger)
    facts = _accelerators(ledger, table["file"].tolist())
    if len(table) < 2:
        return facts
    rows = table[["dataset", "row"]].drop_duplicates()
    levels = quality(grid, ledger).merge(rows)
    mean, deviation = seed_mean(table["change %"].to_numpy()), table["change %"].std()
    low, high = deviation * np.sqrt((len(table) - 1) / chi2.ppf([0.975, 0.025], len(table) - 1))
    return facts | {
        "rows": rows["row"].unique(),
        "datasets": [grid.label(dataset) for dataset in rows["dataset"].unique()],
        "moved": vars(mean),
        "deviation": {"estimate": deviation, "low": low, "high": high},
        "apart": 100 * np.sqrt(2 * ((levels["deviation"] / levels["test"]) ** 2).mean()),
    }
