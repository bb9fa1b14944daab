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
# # Results on Amazon reviews
#
# **You will learn** how good references, alignments and plain baselines are on real data, how sure that is, where a
# change comes from, and which users it reaches.
#
# *Reading: 16 minutes. Running: a minute or two. Before this: [negative selection](selection), [training](training).
# Verdicts are on the [scoreboard](scoreboard).* Every number is read from the **run ledger** in `data/results`: one
# record per finished run, with its configuration, the checksums of its data, the commit, and the rank of every user's
# test item. The data itself may not be redistributed; the ranks may, and all metrics follow from them (`rodpo grid
# verify` computes them again).

# %% tags=["parameters"]
profile = "smoke"
ledger_folder = None  # the project's own, data/results

# %%
import pandas as pd
import plotly.graph_objects as go
from companion.evidence import claims, comparison
from companion.evidence.grid import Grid
from companion.evidence.ledger import FOLDER, Ledger
from companion.evidence.plan import GRID
from companion.findings import changes, examples, explorer, power, runs
from companion.findings.sentences import render
from companion.site import figures, repetitions
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
# run had finished. `workflow/grid.yaml` declares all of it; what was chosen is shown under [sensitivity](sensitivity).

# %% tags=["hide-input"]
Markdown(render("setup", **runs.setup(grid, claims.read(grid).values(), ledger)))

# %% [markdown]
# (ask-the-ledger)=
# ## Ask the ledger
#
# Choose what is rejected, what that is compared with, on which base and in which ranking. Both sides have the settings
# that served them best on validation, unless the choice says otherwise. Then let the reference stay where an alignment
# validates no better, and see how much of a gap is harm that nobody would have taken.

# %% tags=["hide-input"]
every = explorer.table(grid, ledger)
shown = changes.labelled(grid, explorer.pool_alone(every))
fig = figures.forest(shown, "change %", "against", "dataset", rows=explorer.AGAINST)
fig.update_xaxes(title="change of test NDCG@5 to one of the top K, %")
fig.add_vline(x=0, line_dash="dot", line_color=figures.GREY)
figures.show(
    fig,
    caption="Recorded runs over five seeds, with 95 % intervals over users and seeds. Nothing is corrected for how "
    "many you ask: verdicts are on the scoreboard. Without JavaScript, this is the pool against four others.",
    alt="Changes of NDCG@5 with their intervals around zero, a line for each dataset, and a sentence that says on "
    "which of them a difference is shown.",
    data=shown.drop(columns=["base", "rejected", "protocol", "stays"]),
    live="verdicts",
    inputs=explorer.inputs(grid, every),
)

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
# The command in the last column computes a row again, with its reference and the settings that were chosen, and prints
# each seed's test NDCG@5 beside the one on record; it needs the data and goes on where it was interrupted.
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
# ## Where does a change come from?
#
# A gain over the reference may come from more training, from having a preference loss at all, from which items are
# rejected, or from learning not to repeat what the user has. Each of the following pairs is about one of these. Both
# sides are tuned, so that their settings differ, too (they are listed under [sensitivity](sensitivity)); `_past`,
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
for row in changes.ranked(steps).to_dict("records"):
    if (row["after"], row["before"]) in (("topk", "fused"), ("topk", "hard")):
        other = {"fused": "reference"}.get(row["before"], row["before"])
        record(f"{row['dataset']}_topk_over_{other}_percent", row["change %"])
Markdown(render("steps", **changes.steps(grid, steps)))

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
# ## If the reference may stay
#
# An alignment that only does harm is recorded at its least harmful epoch. Whoever uses a model would not take it: its
# validation says that the reference was better. So here an alignment that validates no better than its reference gives
# way to it. This was computed when the verdicts were known, and decides none of them. *Ask the ledger* above does it
# for any pair.

# %% tags=["hide-input"]
may_stay = changes.ranked(comparison.changes(grid, [("topk", "hard")], ledger, or_reference=True))
for dataset, value in may_stay.set_index("dataset")["change %"].items():
    record(f"{dataset}_topk_over_hard_or_reference_percent", value)

# %% tags=["hide-input"]
figures.table(
    changes.where_the_reference_may_stay(grid, ledger),
    "In how many seeds an alignment validates no better than the reference that it started from, and what the pool "
    "then changes in NDCG@5 of test against the hardest item",
)

# %% [markdown]
# ## Does it come out the same again?
#
# The same settings and seeds on Toys, trained on two kinds of processor: one multiplied in bfloat16 (rounding to 8
# bits), the other in 32 bits. Training amplifies rounding until nothing of the path is left in common, so the second
# set is a repetition with other luck and the same users. If that is all, an estimate of the one falls into the 95 %
# interval of the other in about five of six cases (and not in 95 of 100: both of them err), rather more often, for the
# users are the same. The grid had moved to another machine; the second set is the one that counts everywhere else, the
# first lies in `data/replication`.

# %% tags=["hide-input"]
AGAIN = [
    ("topk", "fused"), ("none", "fused"), ("topk", "none"), ("uniform", "none"), ("topk", "uniform"), ("topk", "hard"),
]
sets = {"first, bfloat16": Ledger(FOLDER.parent / "replication"), "second, 32 bits": ledger}
again = pd.concat(comparison.changes(grid, AGAIN, source, ["toys"]).assign(set=name) for name, source in sets.items())
figures.show_changes(
    again,
    again["what"].unique(),
    series="set",
    title="change of test NDCG@5 on Toys, %",
    caption="Six changes on Toys, from two sets of five seeds each, with 95 % intervals over users and seeds.",
    alt="For each of six pairs of rows, two points with intervals, one for each set of runs.",
    hidden=["after", "before", "dataset"],
)

# %% tags=["hide-input"]
Markdown(render("replication", **changes.replication(again) | runs.how_far(grid, ledger)))

# %% [markdown]
# ## Could you see it?
#
# A change that is true need not be seen. Here experiments like these are repeated a hundred times, with as many users
# and seeds as you like and a true change that you choose.

# %% tags=["hide-input"]
repetitions.show(*power.recorded(grid, ledger))

# %% [markdown]
# ## For whom?
#
# The change over the reference, split by how popular the test item is (its training interactions) and by how long the
# history is. Each bar says what a group of users adds to the whole change, so that the bars of a dataset add up to it.
# One in twenty of such intervals leaves zero out by chance.

# %% tags=["hide-input"]
by_group, fig, choices = changes.of_groups(grid, ledger), go.Figure(), {}
for (row, by, dataset), part in by_group.groupby(["row", "by", "dataset"], sort=False):
    popularity = by == changes.POPULARITY
    choices.setdefault(row if popularity else f"{row}, by {by}", []).append(len(fig.data))
    fig.add_bar(
        x=[f"{group}{'' if popularity else ' '}" for group in part["group"]],  # a space keeps the two apart
        y=part["change %"], name=dataset, marker_color=figures.COLOURS[real.index(dataset)],
        error_y=figures.whiskers(part["change %"], part["low"], part["high"]), customdata=part[["from", "to", "users"]],
        hovertemplate="%{y:.2f} %: %{customdata[2]} users, %{customdata[0]} to %{customdata[1]} interactions",
    )
fig.update_xaxes(title="groups of users, the lowest first", type="category")
fig = fig.update_yaxes(title="contribution to the change, %")

# %% tags=["hide-input"]
if choices:
    figures.slider(fig, choices, next(iter(choices)), "Row: ")
    figures.show(
        fig,
        caption="What groups of users add to the change of test NDCG@5 from the reference, all items ranked: tenths "
        "by popularity, least popular first, and for `topk` also groups by length of the history. Hover, or open the "
        "data, for how many users a group has and from how many to how many interactions: many histories are equally "
        "long, so groups differ in size.",
        alt="Bars with intervals for groups of the users by popularity of the test item, under topk, hard and none, "
        "and for topk by length of the history.",
        data=by_group,
    )

# %% tags=["hide-input"]
Markdown(render("groups", groups=changes.labelled(grid, by_group), **changes.popular(grid, ledger)))

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

# %% [markdown]
# ## Takeaways

# %% tags=["hide-input"]
TAKEAWAYS = [
    *(("topk", before) for before in ("fused", "none", "uniform", "hard")), ("hard", "fused"), ("hard", "none"),
    ("topk_on_moe", "topk"), ("topk_on_moe", "topk_on_twin"),
    *(("towers_topk", before) for before in ("towers", "towers_none", "towers_uniform", "towers_hard")),
    ("towers_hard", "towers"), ("towers_topk_on_moe", "towers_topk"), ("towers_topk_on_moe", "towers"),
]
figures.table(
    changes.signs(grid, TAKEAWAYS, ledger),
    "Change of test NDCG@5 in percent, with all items ranked and with the history dropped. ▲ the 95 % interval lies "
    "above zero, ▼ below it, ○ zero is inside. One interval in twenty misses by chance, and nothing is corrected for "
    "that here: verdicts are on the scoreboard",
)

# %% [markdown]
# - A gap between two alignments says little until each is held against the reference: the loser may have been harmed.
# - A change over the reference is not yet a change due to the preference loss: continued cross-entropy is the row to
#   beat.
# - Ranking all items or dropping the history can turn a comparison round; each number here says which it is.
#
# ## Exercises
#
# Guess first, then open the cell below the question: it computes the answer.
#
# **1. Does the protocol decide?** Changes are stated twice above, with all items ranked and with the history dropped.
# For which pairs do the two disagree on the sign?

# %% tags=["hide-cell"]
figures.table(
    changes.other_sign(steps, alike, on_towers, bases),
    "Pairs whose change has another sign under the other protocol, %",
)

# %% [markdown]
# :::{dropdown} Why
# With all items ranked, the model's own past items stand above the target, and whatever pushes them down is rewarded.
# With the history dropped they are gone, and only the order of the rest counts. A sign that turns is not a
# contradiction: it says that the change was about the history, or that it is within the noise of both.
# :::
#
# **2. What do five seeds buy?** Take `topk` over `hard` with the first seed, the first two, and so on. Does the
# interval shrink with the root of the number of seeds?

# %% tags=["hide-cell"]
dataset, growing = changes.with_more_seeds(grid, ("topk", "hard"), ledger)
figures.table(growing, f"`topk` over `hard` on {dataset.capitalize()}, all items ranked, with more and more seeds")

# %% [markdown]
# :::{dropdown} Why
# With one seed the interval is about users only, with as many degrees of freedom as there are users: it leaves out what
# another seed would change. With more, each user's values are averaged, which takes away what is luck of a seed for
# that user. Where seeds differ in the mean, their few degrees of freedom count, and the interval may widen again. It
# never shrinks below what the number of users allows: they are the same for every seed.
# :::
#
# **Next:** [false negatives in real data](falsenegatives).
