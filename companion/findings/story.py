"""What came out so far, as a table and in words: for the first page and for the takeaways of the results."""

from collections.abc import Iterable

import numpy as np
import pandas as pd

from companion.evidence.claims import Claim
from companion.evidence.comparison import PUSHED, changes, complete_pairs, given_up, mechanism, paired_seeds
from companion.evidence.grid import Experiment, Grid
from companion.evidence.ledger import Ledger
from rodpo_lite.evaluation.statistics import Interval, signed

REJECTED = {
    "none": "nothing: cross-entropy goes on",
    "uniform": "a random item of the catalogue",
    "topk": "a random one of the best K",
    "hard": "the hardest item",
    "topk_on_moe": "a random one of the best K, on a sparse mixture",
}
TOWERS = "towers_"  # what the names of the alignments on the base with towers begin with


def against_the_reference(grid: Grid, ledger: Ledger, prefix: str = "") -> pd.DataFrame:
    """What each rejected item does to NDCG@5 of test, all items ranked: a column for each dataset that has run.

    prefix: "" or TOWERS. Cells are percent of the reference without a mixture, with a 95 %
    interval, in words and without the unit.
    """
    if f"{prefix}topk" not in grid.rows:
        return pd.DataFrame()
    reference = grid.rows[f"{prefix}topk"].reference
    labels = {f"{prefix}{name}": f"{told} (`{prefix}{name}`)" for name, told in REJECTED.items()}
    pairs = [(row, reference) for row in labels if row in grid.rows]
    found = complete_pairs(grid, changes(grid, pairs, ledger, grid.real))
    found = found[found["protocol"] == "all items"]
    if found.empty:
        return pd.DataFrame()
    found["told"] = [Interval(*row).text(1, "") for row in found[["change %", "low", "high"]].itertuples(index=False)]
    found["rejected"] = found["after"].map(labels)
    found["dataset"] = found["dataset"].map(grid.label)
    told = found.pivot(index="rejected", columns="dataset", values="told")
    order = [grid.label(name) for name in grid.real if grid.label(name) in told]
    lines = [label for label in labels.values() if label in told.index]
    return told.reindex(index=lines, columns=order).rename_axis("rejected")


def with_history_dropped(grid: Grid, ledger: Ledger, prefix: str = "") -> str:
    """What the pool does to NDCG@5 of test when the user's own items are not ranked, as a list; arguments as above."""
    if f"{prefix}topk" not in grid.rows:
        return ""
    reference = grid.rows[f"{prefix}topk"].reference
    against = {f"{prefix}hard": "the hardest item", reference: "the reference", f"{prefix}none": "continued training"}
    pairs = [(f"{prefix}topk", before) for before in against if before in grid.rows]
    found = complete_pairs(grid, changes(grid, pairs, ledger, grid.real))
    found = found[found["protocol"] == "history dropped"]
    parts = {name: _on_datasets(grid, found[found["before"] == before]) for before, name in against.items()}
    told = [f"- against {name} {on}" for name, on in parts.items() if on]
    return "\n".join(["With the history dropped from the ranking, the pool changes NDCG@5", "", *told]) if told else ""


def where_the_reference_may_stay(grid: Grid, ledger: Ledger) -> pd.DataFrame:
    """What is left of the pool against the hardest item if an alignment must validate better than its reference.

    Three lines for each base: in how many seeds `hard`, and the pool, validate no better than the reference that they
    started from; and the change of NDCG@5 of test, all items ranked, in words. A column for each dataset that has run.
    """
    lines: dict[str, dict[str, str]] = {}
    for hard, topk in (("hard", "topk"), (f"{TOWERS}hard", f"{TOWERS}topk")):
        if not {hard, topk} <= grid.rows.keys():
            continue
        found = complete_pairs(grid, changes(grid, [(topk, hard)], ledger, grid.real, or_reference=True))
        for row in found[found["protocol"] == "all items"].itertuples(index=False):
            always = True
            for name in (hard, topk):
                experiment = Experiment(grid, row.dataset, name)
                times = given_up(experiment, ledger)
                always &= times == len(experiment.seeds)
                told = f"{times} of {len(experiment.seeds)} seeds"
                lines.setdefault(f"`{name}` validates no better in", {})[grid.label(row.dataset)] = told
            told = "the reference on both sides" if always else Interval(row[5], row.low, row.high).text(1, "")
            lines.setdefault(f"what is left of `{topk}` over `{hard}`, %", {})[grid.label(row.dataset)] = told
    order = {label for line in lines.values() for label in line}
    columns = [grid.label(name) for name in grid.real if grid.label(name) in order]
    return pd.DataFrame.from_dict(lines, orient="index", columns=columns).rename_axis("if the reference may stay")


def standing(grid: Grid, pairs: Iterable[tuple[str, str]], ledger: Ledger) -> pd.DataFrame:
    """Each pair of rows (after, before) in a line: the change on every dataset, all items ranked, then history dropped.

    ▲ the 95 % interval lies above zero, ▼ below it, ○ zero is inside; percent of NDCG@5 of test.
    """
    found = complete_pairs(grid, changes(grid, pairs, ledger, grid.real))
    lines: dict[str, dict[str, str]] = {}
    for row in found.itertuples(index=False):
        sign = "▲" if row.low > 0 else "▼" if row.high < 0 else "○"
        column = grid.label(row.dataset) + (", dropped" if row.protocol == "history dropped" else "")
        lines.setdefault(f"`{row.after}` over `{row.before}`", {})[column] = f"{sign}\u00a0{signed(row[5], 1)}"
    columns = [f"{grid.label(name)}{end}" for end in ("", ", dropped") for name in grid.real]
    columns = [name for name in columns if any(name in line for line in lines.values())]
    return pd.DataFrame.from_dict(lines, orient="index", columns=columns).rename_axis("pair")


def ahead_and_behind(grid: Grid, found: pd.DataFrame) -> str:
    """Of `changes` over one row those whose interval leaves zero out, all items ranked, as a list of datasets."""
    found = found[found["protocol"] == "all items"]
    interval = found[["change %", "low", "high"]].apply(lambda row: Interval(*row).text(1), axis=1)
    found = found.assign(told="`" + found["after"] + "` " + interval)
    lines = []
    for dataset, part in found.groupby("dataset", sort=False):
        told = {"ahead": part.loc[part["low"] > 0, "told"], "behind": part.loc[part["high"] < 0, "told"]}
        said = "; ".join(f"{word} {listed(rows)}" for word, rows in told.items() if len(rows))
        lines.append(f"- **{grid.label(dataset)}**: {said or 'none'}")
    return "\n".join(lines)


def as_more_is_hidden(gaps: pd.DataFrame, counted: pd.DataFrame) -> str:
    """What becomes of the change from `hard` to `topk` as a larger share is hidden, in words.

    gaps: `changes` with a column `hidden, %`, in its order; counted: `mechanism`. The trend is the slope of a line
    through the changes, each weighed by its interval, as if they were independent.
    """
    hits = counted[counted["row"] == "hard"].groupby("dataset")["hidden"].mean()
    shares, change = gaps["hidden, %"].to_numpy(float), gaps["change %"].to_numpy(float)
    told = listed(
        [f"{hits[name]:.0f} with {share:g} % hidden" for name, share in zip(gaps["dataset"], shares) if share]
    )
    error = (gaps["high"] - gaps["low"]).to_numpy(float) / (2 * 1.96)
    (slope, _), covariance = np.polyfit(shares / 10, change, 1, w=1 / error, cov="unscaled")
    half = 1.96 * float(np.sqrt(covariance[0, 0]))
    trend = Interval(slope, slope - half, slope + half)
    seen = "widens" if trend.low > 0 else "narrows" if trend.high < 0 else "is not seen to widen"
    seeds = listed([f"{count} at {share:g} %" for count, share in zip(gaps["seeds"], shares)])
    return (
        f"Of 10,000 draws `hard` rejects a hidden purchase in {told}. With every tenth that is hidden, the gap between "
        f"`topk` and `hard` changes by {trend.text(1, '')} percentage points: it **{seen}**. Seeds are {seeds}. What "
        "is hidden is also missing from training, so that all rows have less to learn from; and the two keep settings "
        "of their own, β among them, so that the gap is not of false negatives alone."
    )


def out_of_scale(values: pd.Series, times: float = 4) -> list[str]:
    """Names whose values are beyond so many times the median distance from zero: they would flatten the others."""
    return values[values.abs() > times * values.abs().median()].index.tolist()


def pool_sizes(grid: Grid, ledger: Ledger, prefix: str = "") -> str:
    """How many items the pool holds, out of which sizes that was chosen, and how many items there are.

    prefix: "" or TOWERS.
    """
    items, sizes = ledger.records.drop_duplicates("dataset").set_index("dataset")["n_items"], {}
    for dataset in grid.real:
        chosen = Experiment(grid, dataset, f"{prefix}topk").chosen(ledger) if dataset in items else None
        if chosen and "negatives.k" in chosen:
            sizes.setdefault(chosen["negatives.k"], []).append(f"{items[dataset]:,} items on {grid.label(dataset)}")
    if not sizes:
        return ""
    told = "; ".join(f"{size} of {listed(of)}" for size, of in sizes.items())
    row = grid.rows[f"{prefix}topk"]
    tried, sources = sorted(row.search["negatives.k"]), {row.tuned_on.get(dataset, dataset) for dataset in grid.real}
    where = "" if len(sources) == len(grid.real) else f" of {listed(grid.label(source) for source in sorted(sources))}"
    return f"The pool holds K = {told}: chosen on validation{where} out of {listed(map(str, tried))}."


def ranks_drawn(grid: Grid, ledger: Ledger, rows: Iterable[str] = ("topk", "rank_window", "window_as_topk")) -> str:
    """From which ranks rows with a pool draw, the best one being the first."""
    on: dict[str, list[str]] = {}
    for dataset in grid.real:
        told = []
        for name in rows:
            experiment = Experiment(grid, dataset, name)
            if grid.runs_on(name, dataset) and (settings := experiment.chosen(ledger)) is not None:
                negatives = experiment.config(settings, 0).negatives
                skip = negatives.skip if negatives.name == "rank_window" else 0
                told.append(f"`{name}` from ranks {skip + 1} to {skip + negatives.k}")
        if told:
            on.setdefault(listed(told), []).append(grid.label(dataset))
    return "; ".join(f"On {listed(datasets)}, what is rejected is drawn in {told}" for told, datasets in on.items())


def pushed(grid: Grid, ledger: Ledger) -> str:
    """Where the pushes of `hard` and of `topk` went: on hidden purchases, by share and in all; on validation items."""
    means = mechanism(grid, ledger).groupby(["dataset", "row"])[["on_hidden", PUSHED, "validation"]].mean()
    told, on_validation = [], []
    for dataset in grid.datasets:
        if not {(dataset, "hard"), (dataset, "topk")} <= set(means.index):
            continue
        hard, topk = means.loc[(dataset, "hard")], means.loc[(dataset, "topk")]
        if dataset in grid.planted and grid.tier("topk", dataset) == "A":
            share, amount = (100 * (topk[name] / hard[name] - 1) for name in ("on_hidden", PUSHED))
            told.append(
                f"On {grid.label(dataset)}, the share of the push that lands on hidden purchases changes by "
                f"{signed(share, 0)} % from `hard` to `topk`, and what lands there in all by {signed(amount, 0)} %, "
                "each with the β that was chosen for it."
            )
        elif dataset in grid.real:
            on_validation.append(f"{hard['validation']:.0f} and {topk['validation']:.0f} on {grid.label(dataset)}")
    if on_validation:
        told.append(
            "Of 10,000 draws of `hard` and of `topk`, these reject the user's validation item: "
            f"{listed(on_validation)}."
        )
    return " ".join(told).replace(" %", "\u00a0%")


def against_the_trend(counted: pd.DataFrame) -> str:
    """Rows of a dataset's `mechanism` under which hidden purchases sink more than under `hard`, which hits more."""
    means = counted.groupby("row")[["drift", "hidden"]].mean()
    found = means[(means < means.reindex(["hard"]).iloc[0]).all(axis=1)].sort_values("hidden")
    if found.empty:
        return ""
    times = listed(f"{means.loc['hard', 'hidden'] / hits:.0f}" for hits in found["hidden"])
    return (
        f"hidden purchases sink further under {listed(f'`{name}`' for name in found.index)} than under `hard`, though "
        f"{'these hit' if len(found) > 1 else 'this hits'} them {times} times less often"
    )


def _on_datasets(grid: Grid, found: pd.DataFrame) -> str:
    """+1.0 % [0.5 %, 1.5 %] on Toys, and so on."""
    numbers = found[["change %", "low", "high"]].itertuples(index=False)
    return ", ".join(
        f"{Interval(*row).text(1)} on {grid.label(name)}" for row, name in zip(numbers, found["dataset"], strict=True)
    )


def inputs(grid: Grid, ledger: Ledger) -> str:
    """What items come with on each dataset, and where that is too little for a claim;"""
    of_dataset = ledger.records.drop_duplicates("dataset").set_index("dataset")["modalities"]
    on: dict[tuple[str, ...], list[str]] = {}
    for name in grid.real:
        if name in of_dataset:
            on.setdefault(of_dataset[name], []).append(grid.label(name))
    said = [
        f"on {listed(names)} with {listed(f'{modality}s' for modality in modalities) if modalities else 'nothing'}"
        for modalities, names in on.items()
    ]
    told = f"Beside its ID, an item comes {', '.join(said)}." if said else ""
    if few := [name for modalities, names in on.items() if len(modalities) < 2 for name in names]:
        told += f" So on {listed(few)} no mixture can show that it helps to fuse texts with images."
    return told


PRECISIONS = {"fp32": "32 bits", "bf16": "bfloat16"}


def precisions(grid: Grid, declared: Iterable[Claim], ledger: Ledger) -> str:
    """In what precision products were computed, where it was another, and whether that divides a pair of a claim."""
    of_file = ledger.by_file["precision"].dropna()
    if of_file.empty:
        return ""
    usual = of_file.mode()[0]
    others: dict[tuple[str, str], list[str]] = {}
    for experiment in grid.experiments(grid.real):
        for precision in sorted(set(of_file.reindex(experiment.recorded(ledger).values()).dropna()) - {usual}):
            others.setdefault((PRECISIONS[precision], grid.label(experiment.dataset)), []).append(
                f"`{experiment.name}`"
            )
    told = f"Matrix products of training were computed in {PRECISIONS[usual]}"
    alike: dict[tuple[str, str], list[str]] = {}
    for (precision, on), rows in others.items():
        alike.setdefault((precision, listed(rows)), []).append(on)
    told += "".join(f"; in {precision} for {rows} on {listed(on)}" for (precision, rows), on in alike.items())
    divided = []
    for dataset, *pair in sorted({member for claim in declared for member in claim.members(grid)}):
        files = paired_seeds(*(Experiment(grid, dataset, name) for name in pair), ledger)
        if any(of_file.get(after) != of_file.get(before) for after, before in files):
            divided.append(f"`{pair[0]}` over `{pair[1]}` on {grid.label(dataset)}")
    if others and not divided:
        told += "; both sides of every pair that a claim rests on had the same"
    return told + (f"; it differs within {listed(divided)}." if divided else ".")


def listed(words: Iterable[str]) -> str:
    """a; a and b; a, b and c."""
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last
