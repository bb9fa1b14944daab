# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Every row
#
# The appendix to the [results](results): how the runs were made, every row with both protocols, and each step from one
# row to the next.
#
# *Reading: as a table of reference. Running: a minute or two.* Click on a column to sort by it, type to filter.

# %% tags=["parameters", "hide-input"]
profile = "smoke"
ledger_folder = None  # the project's own, data/results

# %% tags=["hide-input"]
import plotly.graph_objects as go
from companion.evidence import claims, comparison, tuning
from companion.evidence.grid import Grid
from companion.evidence.ledger import Ledger
from companion.evidence.plan import GRID
from companion.findings import changes, examples, negatives, runs, sweeps
from companion.findings.names import NAMES
from companion.findings.sentences import render
from companion.site import figures
from companion.site.pages import record
from IPython.display import Markdown

from rodpo_lite.data.schema import locate, read_dataset

figures.setup()
ledger, grid = Ledger.open(ledger_folder), Grid.read(GRID)
real = grid.real

# %% [markdown]
# ## How it was done
#
# Three Amazon datasets of 2014 {cite}`mcauley2015image`, 5-core, leave one out, ranks over the full catalogue and not
# over a sample of it {cite}`krichene2020sampled`. “All items” ranks the target among everything, as the likely base of
# the paper, HM4SR {cite}`zhang2025hm4sr`, does in its public code; “history dropped” removes what the user already has,
# as most tables do. No user reviews an item twice, so the two differ a lot, and a number without that label means
# little.
#
# Every row that has something to search was tried at the same number of settings, on validation, with a seed that is
# not reported; continued cross-entropy included. The settings themselves differ from row to row: what has a pool is
# searched in its size, too. What was tried is in the ledger. The reported seeds are 1 to 5; test was read once, when a
# run had finished. `workflow/grid.yaml` declares all of it; what was chosen stands below.

# %% tags=["hide-input"]
Markdown(render("setup", **runs.setup(grid, claims.read(grid).values(), ledger)))

# %% [markdown]
# ## Which model is how good?
#
# A **row** is a model with its settings, trained with each seed. Rows have short names: `fused` is the reference, one
# tower that adds up IDs, texts and images; `none` continues its cross-entropy; `uniform`, `hard`, `topk`, `static_topk`
# (the pool ranked by the reference) and `rank_window` (ranks below the very top) reject what they are named after, with
# DPO, and `topk_bpr` without a reference in the loss; `_past` and `_all` allow later training items, and all of the
# user's items, to be rejected; `_moe` has the sparse mixture, `_twin` a dense network of equal active parameters;
# `_as_topk` has the settings that were chosen for `topk`; `towers` has one tower a modality.

# %% tags=["hide-input"]
quality = comparison.quality(grid, ledger)
for dataset, part in runs.quality_tables(grid, quality, ledger).items():
    figures.table(
        part,
        f"{dataset.capitalize()}: NDCG@5 of every row, mean over its seeds, with the deviation between them, from the "
        "best on test down; valid(ation) and test rank all items",
        rows=len(part),
    )
for dataset in real:
    of_reference = quality[(quality["dataset"] == dataset) & (quality["row"] == "fused")]
    record(f"{dataset}_reference_test_ndcg5", of_reference["test"].item())

# %% [markdown]
# `rodpo grid --datasets <dataset> --rows <row> --again` computes a row once more, with its reference and the settings
# that were chosen, and prints each seed's test NDCG@5 beside the one on record; it needs the data and goes on where it
# was interrupted. `rodpo baseline --data $RODPO_DATA/<dataset> --name <name>` does the same for a baseline.
#
# The three baselines train nothing. `popularity` ranks items by how often they were taken; `item_knn` and `content_knn`
# score an item by how often it was bought by the same people as the history {cite}`deshpande2004item`, or by how alike
# their texts and images are, recent items counting more (by how much is chosen on validation; the weights to choose
# from were made finer once, when test had been read). An item does not count as like itself, so that they seldom repeat
# what the user has, and dropping the history changes less for them than for the models.

# %% tags=["hide-input"]
Markdown(render("baselines", rows=changes.over_baselines(grid, ledger)))

# %% [markdown]
# With all items ranked, a model that puts what the user has already on top pays for it, and a baseline that seldom does
# so has that much for free.
#
# For context, numbers that others published, beside ours under both protocols. Theirs come from other code and other
# features, so they place ours on a map and prove nothing {cite}`dacrema2019progress`; baselines are always retrained
# here. All are for the 5-core datasets of 2014, leave one out, ranks over the full catalogue.

# %% tags=["hide-input"]
published = runs.beside_published(grid, quality)
figures.table(
    published,
    "NDCG@5 as published, quoted second hand from tables of later papers, and ours. HM4SR's public code ranks the "
    "history",
)

# %% tags=["hide-input"]
Markdown(render("published", **runs.beside_hm4sr(grid, quality)))

# %% [markdown]
# ## What was chosen

# %% tags=["hide-input"]
for dataset, part in sweeps.chosen(tuning.trials(grid, ledger)).items():
    figures.table(
        part.rename(columns=NAMES["keys"] | {"change %": "change, %"}).round({"change, %": 2}),
        f"{grid.label(dataset)}: the settings of the reported runs, and their validation NDCG@5 against the reference "
        "on the tuning seed",
    )

# %% tags=["hide-input"]
Markdown(render("overruled", rows=sweeps.overruled(grid, ledger)))

# %% tags=["hide-input"]
figures.table(
    tuning.references(grid, ledger).rename(columns=NAMES["keys"]),
    "The references: what was chosen of the trials of each, and its validation NDCG@5 on the tuning seed, all items "
    "ranked",
)

# %% [markdown]
# ## Where does a change come from?
#
# A gain over the reference may come from more training, from having a preference loss at all, from which items are
# rejected, or from learning not to repeat what the user has. Each of the following pairs is about one of these. Both
# sides are tuned, so that their settings differ, too (they are listed above); `_past`,
# `_all` and `_on_…` take those of what they vary. Intervals are 95 %, over users and seeds, crossed: the same users are
# ranked by every seed.

# %% tags=["hide-input"]
STEPS = {
    "all together:<br>topk over fused": ("topk", "fused"),
    "more training:<br>none over fused": ("none", "fused"),
    "more than training:<br>topk over none": ("topk", "none"),
    "a preference loss:<br>uniform over none": ("uniform", "none"),
    "the hardest negative:<br>hard over none": ("hard", "none"),
    "and in all:<br>hard over fused": ("hard", "fused"),
    "hard negatives:<br>topk over uniform": ("topk", "uniform"),
    "stochastic:<br>topk over hard": ("topk", "hard"),
    "dynamic:<br>topk over static_topk": ("topk", "static_topk"),
    "the reference term:<br>topk over topk_bpr": ("topk", "topk_bpr"),
    "without the very top:<br>rank_window over topk": ("rank_window", "topk"),
    "rejecting past items:<br>topk_all over topk": ("topk_all", "topk"),
    "sparse mixture:<br>topk_on_moe over topk": ("topk_on_moe", "topk"),
    "its dense twin:<br>topk_on_twin over topk": ("topk_on_twin", "topk"),
}

# %% tags=["hide-input"]
steps = comparison.changes(grid, STEPS, ledger)
figures.show_changes(
    steps,
    STEPS,
    height=840,
    caption="What each part changes, with 95 % intervals over users and seeds. A dataset without a point has no "
    "finished pair yet.",
    alt="For each part of the method and each dataset, the relative change of test NDCG@5 with its interval around "
    "zero.",
)

# %% tags=["hide-input"]
Markdown(render("steps", **changes.steps(grid, steps)))

# %% tags=["hide-input"]
bases = ("", changes.TOWERS)
tables = [{"prefix": prefix, "changes": changes.against_the_reference(grid, ledger, prefix)} for prefix in bases]
Markdown("\n\n".join(render("rejected", **table) for table in tables))

# %% [markdown]
# Each line says what was rejected, and what came of it: change of test NDCG@5 in percent of the reference without a
# mixture, all items ranked, first on one tower, then with a tower for each modality.
#

# %% [markdown]
# ## The same settings on both sides
#
# Above, each side has the settings that served it best, as far as its trials could tell. Here both have those that were
# chosen for `topk`, so that they differ in one thing only, and the other side may suffer from settings that were not
# chosen for it. Where those were chosen for the other side, too, it is the same run as above.

# %% tags=["hide-input"]
ALIKE = {
    "the pool,<br>not the catalogue": ("topk", "uniform_as_topk"),
    "a random one,<br>not the hardest": ("topk", "hard_as_topk"),
    "ranked by the policy,<br>not the reference": ("topk", "static_as_topk"),
    "a reference<br>in the loss": ("topk", "bpr_as_topk"),
    f"the top, not<br>ranks {grid.rows['window_as_topk'].set['negatives.skip'] + 1} and on": ("topk", "window_as_topk"),
}
alike = comparison.changes(grid, ALIKE, ledger)
figures.show_changes(
    alike,
    ALIKE,
    caption="What topk changes over rows that have its settings and differ in one thing, with 95 % intervals over "
    "users and seeds. A dataset without a point has no finished pair yet.",
    alt="For each of five things and each dataset, the relative change of test NDCG@5 with its interval.",
    hidden=["after"],
)

# %% [markdown]
# ## Other selectors, other losses
#
# Each of these puts something else in the place of the pool, or of DPO; [negative selection](selection) and [the
# objective](objective) say what each does. All were tuned with as many trials as `topk`. Where they began at a
# reference that was trained once more, so did the runs of `topk` that they are compared with, which are not those of
# the tables above. No claim rests on them.

# %% tags=["hide-input"]
OTHERS = {
    name: (name, "topk")
    for name, row in grid.rows.items()
    if row.tier == "B" and row.reference == "fused" and not row.like
}
losses = sum("loss.name" in grid.rows[name].set for name in OTHERS)
others = comparison.changes(grid, OTHERS, ledger)
figures.show_changes(
    others,
    OTHERS,
    by="after",
    title="change of test NDCG@5 from topk, %",
    height=760,
    caption=f"What another selector or, in the last {losses} lines, another loss changes over `topk` with DPO, with "
    "95 % intervals over users and seeds.",
    alt=f"For each of {len(OTHERS) - losses} selectors and {losses} losses and each dataset, the relative change of "
    "test NDCG@5 from topk with its interval.",
    hidden=["what", "before"],
)

# %% tags=["hide-input"]
Markdown(render("others", changes=changes.labelled(grid, changes.ranked(others))))

# %% [markdown]
# ## On another base
#
# The likely base of the paper gives each modality a tower of its own. `towers` does that, and is aligned here in the
# same ways; its alignments were tuned on Toys.

# %% tags=["hide-input"]
ON_TOWERS = {
    "all together:<br>topk over the reference": ("towers_topk", "towers"),
    "more training:<br>none over the reference": ("towers_none", "towers"),
    "more than training:<br>topk over none": ("towers_topk", "towers_none"),
    "hard negatives:<br>topk over uniform": ("towers_topk", "towers_uniform"),
    "stochastic:<br>topk over hard": ("towers_topk", "towers_hard"),
    "the hardest negative:<br>hard over the reference": ("towers_hard", "towers"),
    "sparse mixture:<br>topk on it over topk": ("towers_topk_on_moe", "towers_topk"),
    "all with the mixture:<br>topk on it over the reference": ("towers_topk_on_moe", "towers"),
}
on_towers = comparison.changes(grid, ON_TOWERS, ledger)
for row in changes.ranked(on_towers).to_dict("records"):
    if row["after"] == "towers_topk":
        record(f"{row['dataset']}_towers_topk_over_{row['before']}_percent", row["change %"])

# %% tags=["hide-input"]
figures.show_changes(
    on_towers,
    ON_TOWERS,
    height=600,
    caption="What alignment changes where each modality has a tower, with 95 % intervals over users and seeds. A "
    "dataset without a point has no finished pair yet.",
    alt="For each of eight comparisons on the base with towers and each dataset, the relative change of test NDCG@5 "
    "with its interval.",
)

# %% tags=["hide-input"]
bases = comparison.changes(grid, [("towers", "fused"), ("towers_topk", "topk")], ledger)
Markdown(render("bases", changes=changes.labelled(grid, bases)))

# %% [markdown]
# ## What moves
#
# Lists of 20 for every user, all items ranked, before and after: what left them, what came in, and whether that was
# what the user took next. One seed; the ledger keeps ranks and no weights, so that where the recorded run was gone its
# repetition stands in. Rejected items should leave; if what left was wanted as often as what came in, nothing was
# gained.

# %% tags=["hide-input"]
kept = {dataset: lists for dataset in real if (lists := examples.read(dataset, ledger))}
titles = {  # they may not be published with the book
    dataset: read_dataset(locate(dataset)).titles for dataset in kept if locate(dataset).is_dir()
}
moves = examples.moves_table(kept)
fig, choices = go.Figure(), {}
for (dataset, what), part in moves[moves["what"] != "stayed"].groupby(["dataset", "what"], sort=False):
    choices.setdefault(dataset.capitalize(), []).append(len(fig.data))
    name = {"came": "came in"}.get(what, what)
    fig.add_bar(y=part["row"], x=part[examples.TAKEN_NEXT], name=name, orientation="h")
fig.update_xaxes(title="taken next, per 10,000 items")
fig = fig.update_yaxes(autorange="reversed")

# %% tags=["hide-input"]
if choices:
    figures.slider(fig, choices, next(iter(choices)), "Dataset: ")
    figures.show(
        fig,
        caption="Of the items that left the lists of 20 and of those that came in, how many were what the user took "
        "next.",
        alt="Two bars for each way to go on from the reference: what left and what came in.",
        data=moves,
    )

# %% tags=["hide-input"]
Markdown(render("moves", **examples.came_and_left(grid, moves, ("topk", "hard"))))

# %% tags=["hide-input"]
figures.table(
    examples.losers_table(kept, titles, ("hard", "topk")),
    "The items that leave most lists of 20, on balance, under the hardest negative and under top-K",
)

# %% [markdown]
# ## What selection did
#
# A verdict says whether ranking changed; these counts say what was rejected on the way. Hidden purchases can be counted
# only where some were hidden ([false negatives in real data](falsenegatives)); the validation item everywhere. The push
# is $\beta\sigma(-\beta h)$ for `dpo`.

# %% tags=["hide-input"]
for dataset, part in negatives.selection(grid, comparison.mechanism(grid, ledger)).items():
    figures.table(
        part,
        f"{grid.label(dataset)}: what each alignment rejected in training, means over epochs and seeds",
        rows=len(part),
    )

# %% [markdown]
# ```{margin}
# Rows marked † began at a reference that was trained once more, on a GPU, so that its luck is in their change.
# ```
#
# ## Where purchases are hidden
#
# Against the reference, with a tenth of the training purchases of Toys hidden. The target is the ordinary test item.

# %% tags=["hide-input"]
hidden = "toys-planted"
often = negatives.hits(grid, ledger, hidden)["hidden"]
ranked = negatives.over_the_reference(grid, ledger, hidden, [*often.index[::-1], "none"])
figures.show_changes(
    ranked,
    ranked["row"].unique(),
    by="row",
    series="before",
    slide=None,
    title="test NDCG@5 against the reference, %",
    height=160 + 30 * ranked["row"].nunique(),
    caption="Change of test NDCG@5 on Toys with a tenth of training hidden, all items ranked, by how often a selector "
    "hits what is hidden, most at the top; intervals over users and seeds.",
    alt="A dot with an interval for continued cross-entropy and for each selector, around a vertical line at zero.",
    hidden=["before"],
)

# %% [markdown]
# ## Before and after
#
# What a user would be shown, all items ranked, by the reference and by four of its continuations. The users are drawn
# at random among those whose next item one of the five has in its top ten.

# %% tags=["hide-input"]
for dataset, lists in kept.items():
    for example in lists["users"][:2]:
        figures.table(
            examples.table(example, titles.get(dataset)),
            f"{dataset.capitalize()}, user {example['user']}, seed {lists['seed']}: ★ is the item that came next, ↩ "
            "one of the user's last ten",
        )
