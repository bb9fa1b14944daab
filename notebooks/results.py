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
# **You will learn** how good references, alignments and plain baselines are on real data, how sure that is, where a change comes
# from, and which users it reaches.
#
# *Reading: 16 minutes. Running: a minute or two. Before this: [negative selection](selection), [training](training). Verdicts are on the
# [scoreboard](scoreboard).* Every number is read from the **run ledger**
# in `data/results`: one record per finished run, with its configuration, the checksums of its data, the commit, and the rank of
# every user's test item. The data itself may not be redistributed; the ranks may, and all metrics follow from them
# (`rodpo grid verify` computes them again).

# %% tags=["parameters"]
profile = "smoke"
ledger_folder = None  # the project's own, data/results

# %%
import pandas as pd
import plotly.graph_objects as go
from companion.evidence import claims, comparison
from companion.evidence.grid import Experiment, Grid
from companion.evidence.ledger import FOLDER, Ledger
from companion.evidence.plan import GRID
from companion.findings import examples, groups, repeats, rivals, story
from companion.site import figures
from companion.site.pages import record
from IPython.display import Markdown, display

from rodpo_lite.data.schema import locate, read_dataset
from rodpo_lite.evaluation.statistics import Interval, crossed_change, signed

figures.setup()
ledger, grid = Ledger.open(ledger_folder), Grid.read(GRID)
real = grid.real

# %% [markdown]
# ## How it was done
#
# Three Amazon datasets of 2014 {cite}`mcauley2015image`, 5-core, leave one out, ranks over the full catalogue and not over a sample of it {cite}`krichene2020sampled`. “All items” ranks the target among
# everything, as the likely base of the paper, HM4SR {cite}`zhang2025hm4sr`, does in its public code; “history dropped” removes what
# the user already has, as most tables do. No user reviews an item twice, so the two differ a lot, and a number without that
# label means little.
#
# Every row that has something to search was tried at the same number of settings, on validation, with a seed that is not
# reported; continued cross-entropy included. The settings themselves differ from row to row: what has a pool is searched in its size, too. What was tried is in the ledger. The reported seeds are 1 to 5; test was read
# once, when a run had finished. `workflow/grid.yaml` declares all of it; what was chosen is
# shown under [sensitivity](sensitivity).

# %% tags=["hide-input"]
tuned = sum(bool(row.search) for row in grid.rows.values())
sources = sorted({source for row in grid.rows.values() for source in row.tuned_on.values()})
carried = {source: [f"`{name}`" for name, row in grid.rows.items() if source in row.tuned_on.values()] for source in sources}
stages = {name: Experiment(grid, real[0], name).config({}, 1) for name in ("fused", "topk")}
encoder, steps = stages["fused"].encoder, {name: stage.training for name, stage in stages.items()}
Markdown(
    f"{story.inputs(grid, ledger)}\n\nThe model has width {encoder.width}, {encoder.blocks} blocks with {encoder.heads} heads, and sees the last {encoder.max_length} items. A reference trains for "
    f"at most {steps['fused'].epochs} epochs of {steps['fused'].batches_per_epoch} steps, an alignment for {steps['topk'].epochs}; the weights of the epoch that validates "
    "best are kept. What an alignment started from is never among them: the section *If the reference may stay* tells what that changes.\n\n"
    f"{len(grid.rows)} rows are declared, {tuned} of them tuned with {grid.tuning.trials} trials each on every dataset that they run on, but for some that "
    f"are tuned on one dataset and take its settings to the others ({'; '.join(f'{story.listed(rows)} on {source.capitalize()}' for source, rows in carried.items())}); "
    f"{len(ledger.records)} runs are on record.\n\n"
    f"{story.pool_sizes(grid, ledger)} Negatives are picked from the scores of the policy as it trains: where dropout was chosen, the hardest item is the "
    "hardest under that dropout, and seldom the same twice. What was chosen is told under *Sensitivity*, and how often "
    "the last epoch's item came again on the *scoreboard*.\n\n"
    f"{story.precisions(grid, claims.read(grid).values(), ledger)} {repeats.told(grid, ledger)}"
)

# %% [markdown]
# ## Which model is how good?
#
# A **row** is a model with its settings, trained with each seed. Rows have short names: `fused` is the reference, one tower that adds up IDs, texts and images; `none` continues its cross-entropy;
# `uniform`, `hard`, `topk`, `static_topk` (the pool ranked by the reference) and `rank_window` (ranks below the very top) reject
# what they are named after, with DPO, and `topk_bpr` without a reference in the loss; `_past` and `_all` allow later training items, and
# all of the user's items, to be rejected; `_moe` has the sparse mixture, `_twin` a dense network of equal active
# parameters; `_as_topk` has the settings that were chosen for `topk`; `towers` has one tower a modality.

# %% tags=["hide-input"]
quality = comparison.quality(grid, ledger)
swept = {
    name for name, row in grid.rows.items() if row.tier == "C"
}  # on the page on sensitivity
quality = quality[quality["dataset"].isin(real) & ~quality["row"].isin(swept)]
names = {"validation": "valid", "test": "test ± its deviation", "test_masked": "test, history dropped"}
quality["to run it again"] = [
    f"`rodpo grid --datasets {row.dataset} --rows {row.row} --again`" if row.row in grid.rows
    else f"`rodpo baseline --data $RODPO_DATA/{row.dataset} --name {row.row.removesuffix(' baseline')}`"
    for row in quality.itertuples()
]
marked = set(repeats.began_elsewhere(grid, ledger))
for dataset in [name for name in real if name in set(quality["dataset"])]:
    part = quality[quality["dataset"] == dataset].sort_values("test", ascending=False, kind="stable")
    part = part.assign(row=[f"{row} {repeats.MARK}" if (dataset, row) in marked else row for row in part["row"]])
    deviation = [f" ± {row.deviation:.4f}" if row.seeds > 1 else "" for row in part.itertuples()]
    written = {column: [f"{value:.4f}" for value in part[column]] for column in names}
    written["test"] = [f"{value}{more}" for value, more in zip(written["test"], deviation)]
    figures.table(
        part.assign(**written).drop(columns=["dataset", "validation_masked", "deviation", "seconds"]).rename(columns=names),
        f"{dataset.capitalize()}: NDCG@5 of every row, mean over its seeds, with the deviation between them, from the best on test down; valid(ation) and test rank all items",
        rows=len(part),
    )
for row in quality[quality["row"] == "fused"].itertuples():
    record(f"{row.dataset}_reference_test_ndcg5", row.test)

# %% [markdown]
# The command in the last column computes a row again, with its reference and the settings that were chosen, and prints each
# seed's test NDCG@5 beside the one on record; it needs the data and goes on where it was interrupted.
#
# The three baselines train nothing. `popularity` ranks items by how often they were taken; `item_knn` and `content_knn` score an item by how often it was bought by the same people as the history
# {cite}`deshpande2004item`, or by how alike their texts and images are, recent items counting more (by how much is chosen on
# validation; the weights to choose from were made finer once, when test had been read). An item does not count as like itself, so that they seldom repeat what the user has, and dropping the history changes
# less for them than for the models.

# %% tags=["hide-input"]
beside_baselines = rivals.over_baselines(grid, ledger)
said, ahead = rivals.told(grid, beside_baselines), rivals.ahead(grid, beside_baselines)
Markdown("Against the baseline that validates best, with 95 % intervals over users and seeds:\n\n" + "\n".join(f"- {line}" for line in said) + f"\n\n{' '.join(ahead)}" if said else "")

# %% [markdown]
# With all items ranked, a model that puts what the user has already on top pays for it, and a baseline that seldom does so has that much for free.
#
# For context, numbers that others published, beside ours under both protocols. Theirs come from other code and other features, so
# they place ours on a map and prove nothing {cite}`dacrema2019progress`; baselines are always retrained here. All are for the 5-core datasets of 2014, leave one
# out, ranks over the full catalogue.

# %% tags=["hide-input"]
whole_rows = comparison.complete(grid, quality)
published = pd.read_csv(FOLDER.parent / "published.csv")
OURS = {"fused": "ours, reference", "topk": "ours, aligned with topk", "towers": "ours, reference with towers", "towers_topk": "ours, towers aligned with topk"}
ours = [
    {
        "system": label,
        "inputs": "IDs, text; images where there are any",
        "history": history,
        "origin": "run ledger",
    }
    | whole_rows[whole_rows["row"] == name].set_index("dataset")[column].to_dict()
    for name, label in OURS.items()
    for column, history in (("test_masked", "dropped"), ("test", "ranked"))
]
figures.table(
    pd.concat([published, pd.DataFrame(ours)])[published.columns],
    "NDCG@5 as published, quoted second hand from tables of later papers, and ours. HM4SR's public code ranks the history",
)

# %% tags=["hide-input"]
(base,) = published[published["system"] == "HM4SR"].itertuples()
ranked = whole_rows[(whole_rows["dataset"] == "sports") & whole_rows["row"].isin(["fused", "towers"])]
Markdown(
    f"On Sports, HM4SR is quoted with {base.sports}; "
    + " and ".join(f"our `{row.row}` has {row.test:.4f}, {signed(100 * (row.test / base.sports - 1), 0)}\u00a0%" for row in ranked.itertuples())
    + ". Its features and its training are not ours, so that this gap has many possible reasons."
    if not ranked.empty else ""
)

# %% [markdown]
# ## Where does a change come from?
#
# A gain over the reference may come from more training, from having a preference loss at all, from which items are rejected,
# or from learning not to repeat what the user has. Each of the following pairs is about one of these. Both sides are tuned, so
# that their settings differ, too (they are listed under [sensitivity](sensitivity)); `_past`, `_all` and `_on_…` take those of what they vary. Intervals are 95 %, over users and seeds, crossed: the same users are ranked by every seed.

# %% tags=["hide-input"]
STEPS = {
    "all together: `topk` over `fused`": ("topk", "fused"),
    "more training: `none` over `fused`": ("none", "fused"),
    "more than training: `topk` over `none`": ("topk", "none"),
    "a preference loss: `uniform` over `none`": ("uniform", "none"),
    "the hardest negative: `hard` over `none`": ("hard", "none"),
    "and in all: `hard` over `fused`": ("hard", "fused"),
    "hard negatives: `topk` over `uniform`": ("topk", "uniform"),
    "stochastic: `topk` over `hard`": ("topk", "hard"),
    "dynamic: `topk` over `static_topk`": ("topk", "static_topk"),
    "the reference term: `topk` over `topk_bpr`": ("topk", "topk_bpr"),
    "without the very top: `rank_window` over `topk`": ("rank_window", "topk"),
    "rejecting past items: `topk_all` over `topk`": ("topk_all", "topk"),
    "sparse mixture: `topk_on_moe` over `topk`": ("topk_on_moe", "topk"),
    "its dense twin: `topk_on_twin` over `topk`": ("topk_on_twin", "topk"),
}
changes = comparison.complete_pairs(grid, comparison.changes(grid, STEPS.values(), ledger, real))
labels = {
    pair: label.replace("`", "").replace(": ", ":<br>") for label, pair in STEPS.items()
}
changes.insert(1, "what", [labels[pair] for pair in zip(changes["after"], changes["before"])])
fig = figures.forest(changes, "change %", "what", "dataset", rows=labels.values(), slide="protocol")
fig.add_vline(x=0, line_dash="dot", line_color=figures.GREY)
fig.update_layout(height=840)
fig.update_xaxes(title="change of test NDCG@5, %")
figures.show(
    fig,
    caption="What each part changes, with 95 % intervals over users and seeds. A dataset without a point has no finished pair yet.",
    alt="For each part of the method and each dataset, the relative change of test NDCG@5 with its interval around zero.",
    data=changes.drop(columns=["after", "before"]).assign(
        what=changes["what"].str.replace("<br>", " ")
    ),
)

# %% tags=["hide-input"]
said = []
for dataset in real:
    part = changes[(changes["dataset"] == dataset) & (changes["protocol"] == "all items")].set_index(["after", "before"])
    if not {("topk", "fused"), ("topk", "none"), ("topk", "hard")} <= set(part.index):
        said.append(f"- **{dataset.capitalize()}**: not run yet.")
        continue
    told = [
        f"{label} {Interval(*part.loc[pair, ['change %', 'low', 'high']]).text(1)}"
        for label, pair in (("`topk` over the reference", ("topk", "fused")), ("over `none`", ("topk", "none")), ("over `hard`", ("topk", "hard")), ("`hard` over the reference", ("hard", "fused")))
    ]
    record(f"{dataset}_topk_over_reference_percent", part.loc[("topk", "fused"), "change %"])
    record(f"{dataset}_topk_over_hard_percent", part.loc[("topk", "hard"), "change %"])
    said.append(f"- **{dataset.capitalize()}**: " + ", ".join(told) + ".")
Markdown("With all items ranked:\n\n" + "\n".join(said))

# %% [markdown]
# ## The same settings on both sides
#
# Above, each side has the settings that served it best, as far as its trials could tell. Here both have those that were chosen for `topk`, so that they differ in
# one thing only, and the other side may suffer from settings that were not chosen for it. Where those were chosen for the other side, too, it is the same run
# as above.

# %% tags=["hide-input"]
ALIKE = {
    "uniform_as_topk": "the pool,<br>not the catalogue",
    "hard_as_topk": "a random one,<br>not the hardest",
    "static_as_topk": "ranked by the policy,<br>not the reference",
    "bpr_as_topk": "a reference<br>in the loss",
    "window_as_topk": f"the top, not<br>ranks {grid.rows['window_as_topk'].set['negatives.skip'] + 1} and on",
}
alike = comparison.changes(grid, [("topk", row) for row in ALIKE], ledger, real)
alike = comparison.complete_pairs(grid, alike)
alike.insert(1, "what", alike["before"].map(ALIKE))
if alike.empty:
    display(Markdown("*These runs are not on record yet.*"))
else:
    fig = figures.forest(alike, "change %", "what", "dataset", rows=ALIKE.values(), slide="protocol")
    fig.add_vline(x=0, line_dash="dot", line_color=figures.GREY)
    fig.update_xaxes(title="change of test NDCG@5, %")
    figures.show(
        fig,
        caption="What topk changes over rows that have its settings and differ in one thing, with 95 % intervals over users and seeds. A dataset without a point has no finished pair yet.",
        alt="For each of five things and each dataset, the relative change of test NDCG@5 with its interval.",
        data=alike.drop(columns="after").assign(what=alike["what"].str.replace("<br>", " ")),
    )

# %% [markdown]
# ## Other selectors, other losses
#
# Each of these puts something else in the place of the pool, or of DPO; [negative selection](selection) and [the objective](objective) say what each does.
# All were tuned with as many trials as `topk`. Where they began at a reference that was trained once more, so did the runs of `topk` that they are compared with, which are
# not those of the tables above. No claim rests on them.

# %% tags=["hide-input"]
OTHERS = [name for name, row in grid.rows.items() if row.tier == "B" and row.reference == "fused" and not row.like]
of_losses = sum("loss.name" in grid.rows[name].set for name in OTHERS)
others = comparison.complete_pairs(grid, comparison.changes(grid, [(row, "topk") for row in OTHERS], ledger, real))
if others.empty:
    display(Markdown("*These runs are not on record yet.*"))
else:
    fig = figures.forest(others, "change %", "after", "dataset", rows=OTHERS, slide="protocol")
    fig.add_vline(x=0, line_dash="dot", line_color=figures.GREY)
    fig.update_layout(height=760)
    fig.update_xaxes(title="change of test NDCG@5 from topk, %")
    figures.show(
        fig,
        caption=f"What another selector or, in the last {of_losses} lines, another loss changes over `topk` with DPO, with 95 % intervals over users and seeds.",
        alt=f"For each of {len(OTHERS) - of_losses} selectors and {of_losses} losses and each dataset, the relative change of test NDCG@5 from topk with its interval.",
        data=others.drop(columns="before"),
    )

# %% tags=["hide-input"]
shown = others[others["protocol"] == "all items"]
Markdown(
    f"Of these {len(shown)} intervals with all items ranked, {((shown['low'] > 0) | (shown['high'] < 0)).sum()} leave zero out, where by chance alone about {len(shown) / 20:.0f} would. "
    f"Against `topk`:\n\n{story.ahead_and_behind(grid, others)}"
    if len(shown) else ""
)

# %% [markdown]
# ## On another base
#
# The likely base of the paper gives each modality a tower of its own. `towers` does that, and is aligned here in the same ways; its alignments were tuned
# on Toys.

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
on_towers = comparison.complete_pairs(grid, comparison.changes(grid, ON_TOWERS.values(), ledger, real))
if on_towers.empty:
    display(Markdown("*These runs are not on record yet.*"))
else:
    label = {pair: name for name, pair in ON_TOWERS.items()}
    on_towers.insert(1, "what", [label[pair] for pair in zip(on_towers["after"], on_towers["before"])])
    fig = figures.forest(on_towers, "change %", "what", "dataset", rows=ON_TOWERS, slide="protocol")
    fig.add_vline(x=0, line_dash="dot", line_color=figures.GREY)
    fig.update_layout(height=600, showlegend=True)  # a single dataset is named, too
    fig.update_xaxes(title="change of test NDCG@5, %")
    figures.show(
        fig,
        caption="What alignment changes where each modality has a tower, with 95 % intervals over users and seeds. A dataset without a point has no finished pair yet.",
        alt="For each of eight comparisons on the base with towers and each dataset, the relative change of test NDCG@5 with its interval.",
        data=on_towers.drop(columns=["after", "before"]).assign(what=on_towers["what"].str.replace("<br>", " ")),
    )
    for row in on_towers[(on_towers["protocol"] == "all items") & (on_towers["after"] == "towers_topk")].itertuples():
        record(f"{row.dataset}_towers_topk_over_{row.before}_percent", row[7])

# %% tags=["hide-input"]
bases = comparison.complete_pairs(grid, comparison.changes(grid, [("towers", "fused"), ("towers_topk", "topk")], ledger, real))
Markdown(
    "The two bases differ in what they are good at; the towers were trained in another precision where that is said above, so that this is a comparison of models and no control:\n\n"
    + "\n".join(
        f"- {grid.label(dataset)}, `{after}` over `{before}`: "
        + ", ".join(f"{Interval(row[6], row.low, row.high).text(1)} ({row.protocol})" for row in part.itertuples()) + "."
        for (dataset, after, before), part in bases.groupby(["dataset", "after", "before"], sort=False)
    )
    if not bases.empty else ""
)

# %% [markdown]
# ## If the reference may stay
#
# An alignment that only does harm is recorded at its least harmful epoch. Whoever uses a model would not take it: its validation says that the
# reference was better. So here an alignment that validates no better than its reference gives way to it. This was computed when the
# verdicts were known, and decides none of them.

# %% tags=["hide-input"]
PAIRS = [("topk", "hard"), ("topk", "uniform"), ("topk", "none"), ("topk", "fused"), ("towers_topk", "towers_hard"), ("towers_topk", "towers_uniform"), ("towers_topk", "towers")]
may_stay = pd.concat(
    comparison.changes(grid, PAIRS, ledger, real, or_reference=allowed).assign(taken=label)
    for label, allowed in (("or its reference", True), ("as recorded", False))
)
may_stay = comparison.complete_pairs(grid, may_stay[may_stay["protocol"] == "all items"])
may_stay.insert(1, "what", may_stay["after"] + " over " + may_stay["before"])
fig = figures.forest(may_stay, "change %", "what", "dataset", rows=may_stay["what"].unique(), slide="taken")
fig.add_vline(x=0, line_dash="dot", line_color=figures.GREY)
fig.update_xaxes(title="change of test NDCG@5, all items ranked, %")
fig.update_layout(height=560)
figures.show(
    fig,
    caption="Seven changes where an alignment that validates no better than its reference gives way to it, and, by the slider, as recorded. A point at zero without an interval is the reference on both sides.",
    alt="For each of seven pairs of rows and each dataset, the change of test NDCG@5 with its interval, with and without the reference as a candidate.",
    data=may_stay.drop(columns=["after", "before", "protocol"]),
)
over_hard = may_stay[(may_stay["taken"] == "or its reference") & (may_stay["before"] == "hard")]
for dataset, value in over_hard.set_index("dataset")["change %"].items():
    record(f"{dataset}_topk_over_hard_or_reference_percent", value)

# %% tags=["hide-input"]
figures.table(
    story.where_the_reference_may_stay(grid, ledger),
    "In how many seeds an alignment validates no better than the reference that it started from, and what the pool then changes in NDCG@5 of test against the hardest item",
)

# %% [markdown]
# ## Does it come out the same again?
#
# The same settings and seeds on Toys, trained on two kinds of processor: one multiplied in bfloat16 (rounding to 8 bits), the other in
# 32 bits. Training amplifies rounding until nothing of the path is left in common, so the second set is a repetition with other luck
# and the same users. If that is all, an estimate of the one falls into the 95 % interval of the other in about five of six cases (and not in
# 95 of 100: both of them err), rather more often, for the users are the same. The grid had moved to another machine; the second set is the one that counts everywhere else, the
# first lies in `data/replication`.

# %% tags=["hide-input"]
replication = FOLDER.parent / "replication"
AGAIN = [("topk", "fused"), ("none", "fused"), ("topk", "none"), ("uniform", "none"), ("topk", "uniform"), ("topk", "hard")]
sets = {"first, bfloat16": Ledger(replication), "second, 32 bits": ledger}
again = pd.concat(
    comparison.changes(grid, AGAIN, source, ["toys"]).assign(set=name)
    for name, source in sets.items()
)
again.insert(1, "what", again["after"] + " over " + again["before"])
fig = figures.forest(again, "change %", "what", "set", rows=again["what"].unique(), slide="protocol")
fig.add_vline(x=0, line_dash="dot", line_color=figures.GREY)
fig.update_xaxes(title="change of test NDCG@5 on Toys, %")
figures.show(
    fig,
    caption="Six changes on Toys, from two sets of five seeds each, with 95 % intervals over users and seeds.",
    alt="For each of six pairs of rows, two points with intervals, one for each set of runs.",
    data=again.drop(columns=["after", "before", "dataset"]),
)
first_set, second_set = (again[again["set"] == name].set_index(["what", "protocol"]) for name in sets)
first_set = first_set.reindex(second_set.index)
met = second_set["change %"].between(first_set["low"], first_set["high"])
sure = second_set[(second_set["low"] > 0) | (second_set["high"] < 0)].index
same = (second_set["change %"] * first_set["change %"])[sure] > 0
Markdown(
    f"Of the second set's {len(met)} changes, both protocols counted, {met.sum()} lie in the first set's interval; of those whose interval "
    f"leaves zero out, {same.sum()} of {len(same)} have the first set's sign.\n\n{repeats.how_far(grid, ledger)}"
)

# %% [markdown]
# ## For whom?
#
# The change over the reference, split by how popular the test item is (its training interactions) and by how long the
# history is. Each bar says what a group of users adds to the whole change, so that the bars of a dataset add up to it. One in twenty of
# such intervals leaves zero out by chance.

# %% tags=["hide-input"]
parts, fig, choices = groups.over_the_reference(grid, ledger), go.Figure(), {}
for (row, by, dataset), part in parts.groupby(["row", "by", "dataset"], sort=False):
    choices.setdefault(row if by == groups.POPULARITY else f"{row}, by {by}", []).append(len(fig.data))
    fig.add_bar(
        x=[f"{group}{'' if by == groups.POPULARITY else ' '}" for group in part["group"]],  # a space keeps the two apart
        y=part["change %"], name=dataset, marker_color=figures.COLOURS[real.index(dataset)],
        error_y=figures.whiskers(part["change %"], part["low"], part["high"]), customdata=part[["from", "to", "users"]],
        hovertemplate="%{y:.2f} %: %{customdata[2]} users, %{customdata[0]} to %{customdata[1]} interactions",
    )
if choices:
    fig.update_xaxes(title="groups of users, the lowest first", type="category")
    fig.update_yaxes(title="contribution to the change, %")
    figures.slider(fig, choices, next(iter(choices)), "Row: ")
    figures.show(
        fig,
        caption="What groups of users add to the change of test NDCG@5 from the reference, all items ranked: tenths by popularity, least popular first, and for `topk` also groups by length of the history. Hover, or open the data, for how many users a group has and from how many to how many interactions: many histories are equally long, so groups differ in size.",
        alt="Bars with intervals for groups of the users by popularity of the test item, under topk, hard and none, and for topk by length of the history.",
        data=parts,
    )

# %% tags=["hide-input"]
where = groups.told(grid, parts)
Markdown(
    (f"Under `topk` the interval leaves zero out here:\n\n{where}\n\n" if where else "Under `topk` no group's interval leaves zero out.\n\n")
    + groups.with_the_most_popular(grid, ledger)
)

# %% [markdown]
# ## What moves
#
# Lists of 20 for every user, all items ranked, before and after: what left them, what came in, and whether that was what the
# user took next. One seed; the ledger keeps ranks and no weights, so that where the recorded run was gone its repetition stands in.
# Rejected items should leave; if what left was wanted as often as what came in, nothing was gained.

# %% tags=["hide-input"]
kept = {dataset: found for dataset in real if (found := examples.read(dataset, ledger))}
titles = {  # they may not be published with the book
    dataset: read_dataset(locate(dataset)).titles for dataset in kept if locate(dataset).is_dir()
}
NAMES = {"items": "items a user", "owned": "already had, %", "next": "taken next, per 10,000", "popularity": "median purchases"}
SCALES = {"items": 1, "owned": 100, "next": 1e4, "popularity": 1}
moves = pd.DataFrame(
    {"dataset": dataset, "row": row, "what": what, **{NAMES[key]: SCALES[key] * value for key, value in values.items()}}
    for dataset, found in kept.items()
    for row, moved in found["moved"].items()
    for what, values in moved["moves"].items()
)
fig, choices = go.Figure(), {}
for (dataset, what), part in moves[moves["what"] != "stayed"].groupby(["dataset", "what"], sort=False):
    choices.setdefault(dataset.capitalize(), []).append(len(fig.data))
    fig.add_bar(
        y=part["row"],
        x=part[NAMES["next"]],
        name={"came": "came in"}.get(what, what),
        orientation="h",
    )
if choices:
    fig.update_xaxes(title="taken next, per 10,000 items")
    fig.update_yaxes(autorange="reversed")
    figures.slider(fig, choices, next(iter(choices)), "Dataset: ")
    figures.show(
        fig,
        caption="Of the items that left the lists of 20 and of those that came in, how many were what the user took next.",
        alt="Two bars for each way to go on from the reference: what left and what came in.",
        data=moves,
    )

# %% tags=["hide-input"]
next_of = moves.set_index(["dataset", "row", "what"])[NAMES["next"]]
Markdown(
    "\n".join(
        f"- **{dataset.capitalize()}**, `{row}`: what came in was taken next in {came:.1f} of 10,000 cases, what left in {left:.1f}."
        for dataset in kept
        for row in ("topk", "hard")
        for came, left in [
            (next_of[dataset, row, "came"], next_of[dataset, row, "left"])
        ]
    )
)

# %% tags=["hide-input"]
lost = pd.DataFrame(
    {"dataset": dataset, "row": row, "item": examples.short(titles[dataset][line["item"]]) if dataset in titles else line["item"],
     "lists before": line["before"], "lists after": line["after"], "taken next by those who lost it": line["wanted"]}
    for dataset, found in kept.items()
    for row in ("hard", "topk")
    for line in found["moved"][row]["losers"][:5]
)
figures.table(
    lost,
    "The items that leave most lists of 20, on balance, under the hardest negative and under top-K",
)

# %% [markdown]
# ## Before and after
#
# What a user would be shown, all items ranked, by the reference and by four of its continuations. The users are drawn at random
# among those whose next item one of the five has in its top ten.

# %% tags=["hide-input"]
for dataset, found in kept.items():
    for example in found["users"][:2]:
        figures.table(
            examples.table(example, titles.get(dataset)),
            f"{dataset.capitalize()}, user {example['user']}, seed {found['seed']}: ★ is the item that came next, ↩ one of the user's last ten",
        )

# %% [markdown]
# ## Takeaways

# %% tags=["hide-input"]
TOLD = [
    *(("topk", before) for before in ("fused", "none", "uniform", "hard")), ("hard", "fused"), ("hard", "none"),
    ("topk_on_moe", "topk"), ("topk_on_moe", "topk_on_twin"),
    *(("towers_topk", before) for before in ("towers", "towers_none", "towers_uniform", "towers_hard")),
    ("towers_hard", "towers"), ("towers_topk_on_moe", "towers_topk"), ("towers_topk_on_moe", "towers"),
]
figures.table(
    story.standing(grid, TOLD, ledger),
    "Change of test NDCG@5 in percent, with all items ranked and with the history dropped. ▲ the 95 % interval lies above zero, ▼ below it, ○ zero is inside. "
    "One interval in twenty misses by chance, and nothing is corrected for that here: verdicts are on the scoreboard",
)

# %% [markdown]
# - A gap between two alignments says little until each is held against the reference: the loser may have been harmed.
# - A change over the reference is not yet a change due to the preference loss: continued cross-entropy is the row to beat.
# - Ranking all items or dropping the history can turn a comparison round; each number here says which it is.
#
# ## Exercises
#
# Guess first, then open the cell below the question: it computes the answer.
#
# **1. Does the protocol decide?** Changes are stated twice above, with all items ranked and with the history dropped. For which
# pairs do the two disagree on the sign?

# %% tags=["hide-cell"]
both = pd.concat([changes, alike, on_towers, bases]).drop_duplicates(["dataset", "protocol", "change %", "low"])  # the same runs may have two names
both = both.assign(pair=both["after"] + " over " + both["before"]).pivot(index=["dataset", "pair"], columns="protocol", values="change %")
figures.table(
    both[both["all items"] * both["history dropped"] < 0],
    "Pairs whose change has another sign under the other protocol, %",
)

# %% [markdown]
# :::{dropdown} Why
# With all items ranked, the model's own past items stand above the target, and whatever pushes them down is rewarded. With the
# history dropped they are gone, and only the order of the rest counts. A sign that turns is not a contradiction: it says that the
# change was about the history, or that it is within the noise of both.
# :::
#
# **2. What do five seeds buy?** Take `topk` over `hard` with the first seed, the first two, and so on. Does the interval shrink with
# the root of the number of seeds?

# %% tags=["hide-cell"]
experiments = {name: (Experiment(grid, name, "topk"), Experiment(grid, name, "hard")) for name in real}
first, files = max(((name, comparison.paired_seeds(*pair, ledger)) for name, pair in experiments.items()), key=lambda found: len(found[1]))
figures.table(
    pd.DataFrame(
        {"seeds": n, "change %": found.estimate, "half width": (found.high - found.low) / 2, "degrees of freedom": found.freedom}
        for n in range(1, len(files) + 1)
        for found in [crossed_change(*comparison.arms(files[:n], ledger))]
    ),
    f"`topk` over `hard` on {first.capitalize()}, all items ranked, with more and more seeds",
)

# %% [markdown]
# :::{dropdown} Why
# With one seed the interval is about users only, with as many degrees of freedom as there are users: it leaves out what another seed
# would change. With more, each user's values are averaged, which takes away what is luck of a seed for that user. Where seeds differ in
# the mean, their few degrees of freedom count, and the interval may widen again. It never shrinks below what the number of users
# allows: they are the same for every seed.
# :::
#
# **Next:** [false negatives in real data](falsenegatives).
