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
# # Cost and scaling
#
# **You will learn** what an epoch, an alignment and an evaluation cost on two CPU cores, what bounds that, how it grows
# with users, items, history length and $K$, and what a GPU changes.
#
# *Reading: 9 minutes. Running: seconds. Before this: [training](training).* Numbers are read from `benchmarks/results.json`, which
# `make bench` writes, and from `converged.json`, `precision.json` and `accelerator.json` beside it; nothing is timed while this page is built. Unless a section says
# otherwise the model is SASRec {cite}`kang2018sasrec` with 2 blocks, width 64, 2 heads, at most 50 items, item IDs only, and machine and data are these:

# %% tags=["parameters"]
profile = "smoke"

# %%
import pandas as pd
import plotly.graph_objects as go
from companion.findings import costs, story
from companion.site import figures
from companion.site.pages import record
from IPython.display import Markdown

from rodpo_lite.sampling.selectors import NegativesConfig

figures.setup()
results = costs.results()
table = costs.tasks(results)

# %% tags=["hide-input"]
machine, versions = results["machine"], results["versions"]
Markdown(
    f"Measured on {results['date']}: {machine['cpu']}, {machine['threads']} threads, {machine['memory_gib']:.0f} GiB, "
    f"torch {versions['ours']['torch']}. The data is {results['dataset'].capitalize()}."
)

# %% [markdown]
# ## Beside other libraries
#
# Each library is trained on the same sequences: RecBole {cite}`zhao2021recbole`, RePlay {cite}`vasilev2024replay`, [RecTools](https://github.com/MobileTeleSystems/RecTools), and a
# [short PyTorch SASRec](https://github.com/pmixer/SASRec.pytorch) that many papers start from. They took turns, so that a slow minute of the machine hits
# all of them, each at its best reasonable setting; which that is, and why, stands in `benchmarks/README.md`. Each minimises the loss that its row names.

# %% tags=["hide-input"]
epochs = table[table["task"].isin(costs.EPOCHS) & table["seconds"].notna()]
order = epochs.groupby("library")["seconds"].min().sort_values(ascending=False).index
fig = go.Figure()
for number, (task, label) in enumerate(costs.EPOCHS.items()):
    part = epochs[epochs["task"] == task]
    fig.add_scatter(
        x=part["seconds"], y=part["library"], name=label, mode="markers", orientation="h", **figures.style(number),
        error_x=figures.whiskers(part["seconds"], part["least"], part["most"]),
    )
fig.update_layout(scattermode="group")
fig.update_xaxes(title="seconds of one epoch", type="log", dtick=1)
fig.update_yaxes(categoryorder="array", categoryarray=list(order))
figures.show(
    fig,
    caption="Training seconds of one epoch of Beauty: medians, with the least and the most.",
    alt="A dot for each library and loss on a logarithmic axis of seconds; rodpo_lite has the least for each loss.",
    data=epochs.assign(task=epochs["task"].map(costs.EPOCHS)).drop(columns="note"),
)

# %% tags=["hide-input"]
rows = []
for task, label in {**costs.EPOCHS, "evaluate": "ranking all users over the catalogue"}.items():
    peer, own = costs.best_peer(table, task), table[(table["task"] == task) & (table["library"] == "rodpo_lite")].iloc[0]
    record(f"{task}_times_best_peer", peer["ratio"])
    rows.append((label, own["seconds"], peer["library"], peer["seconds"], peer["ratio"]))
figures.table(
    pd.DataFrame(rows, columns=["task", "ours, s", "fastest other", "its time, s", "times ours"]),
    "Medians, each library at its own best setting",
)

# %% tags=["hide-input"]
of_recbole = [costs.ratio_to(table, "epoch-full", name) for name in ("RecBole in bf16", "RecBole")]
own = table[(table["task"] == "epoch-full") & (table["library"] == "rodpo_lite")].iloc[0]
Markdown(
    f"RecBole's epoch of full cross-entropy takes {of_recbole[0]:.0f} times ours where both multiply in bf16, and {of_recbole[1]:.0f} times in fp32, its default, against ours at its default. Ours peaks at {own['MiB']:.0f} MiB, imports included."
)

# %% [markdown]
# Four things are built differently here; how much each of them saves was not measured apart. **No padding**: most histories fill few of their 50 places, and only real positions are
# computed. **One pass over the scores**: they are made in blocks that stay in the cache, turned into gradients, and
# dropped; no matrix of all scores exists. **bf16 products** where the processor has them. **Ranks by counting**: the rank of the target
# is how many scores are larger, so nothing is sorted.
#
# ## Time to a quality
#
# An epoch that is fast and teaches little is no use. So: seconds of training until validation NDCG@10 (history dropped) reaches
# a fixed value, the same measurement for every library after each epoch, its time not counted.

# %% tags=["hide-input"]
reached = costs.quality(results)
target = results["tasks"]["quality-full"]["ours"]["facts"]["target"]
fig = go.Figure()
groups, shown = {label: [] for label in costs.QUALITY.values()}, 0
for task, label in costs.QUALITY.items():
    for number, (library, part) in enumerate(reached[reached["task"] == task].groupby("library", sort=False)):
        first = part[part["round"] == part["round"].min()]
        fig.add_scatter(x=first["seconds"], y=first["NDCG@10"], name=library, mode="lines+markers", **figures.style(number))
        groups[label].append(shown)
        shown += 1
fig.add_hline(y=target, line_dash="dot", line_color=figures.GREY)
fig.update_xaxes(title="training seconds", type="log", dtick=1)
fig.update_yaxes(title="validation NDCG@10", rangemode="tozero")
figures.slider(fig, groups, "full cross-entropy", "Loss: ")
figures.show(
    fig,
    caption=f"Validation quality over training seconds, first round. Dotted: the target, {target:g}. A curve that ends below it met the time limit.",
    alt="Curves of NDCG@10 over seconds for each library; rodpo_lite reaches the target first.",
    data=reached.groupby(["task", "library", "round"])[["seconds", "NDCG@10"]]
    .max()
    .reset_index(),
)

# %% tags=["hide-input"]
lines = []
for task, label in costs.QUALITY.items():
    part = table[(table["task"] == task)].set_index("library")
    lines.append(f"With {label}, ours takes {part.loc['rodpo_lite', 'seconds']:.1f} s.")
    if part.drop(index="rodpo_lite")["seconds"].notna().any():
        peer = costs.best_peer(table, task)
        record(f"{task}_times_best_peer", peer["ratio"])
        lines.append(f"The fastest other, {peer['library']}, takes {peer['ratio']:.1f} times as long.")
    given_up = [f"{library} ({row['note']})" for library, row in part.iterrows() if row["note"] and pd.isna(row["seconds"])]
    if given_up:
        lines.append("Did not reach it, or have no such loss: " + "; ".join(given_up) + ".")
Markdown(" ".join(lines))

# %% [markdown]
# The race is not quite fair: ours ran with settings that were chosen on validation for it (`QUALITY` in `benchmarks/ours.py`), the others
# with their defaults, and some of them met the time limit after few epochs. Nor is a cheaper step always the faster way: compare our two times.
#
# A race to a fixed value does not say where each would end. So those in the next figure were also left to train for equally many epochs, each
# with its own defaults; RePlay has none for the batch, and was given 64 users. Our defaults were chosen on validation of such datasets, the others' by their authors on theirs.

# %% tags=["hide-input"]
ended = costs.converged()
of_epoch = ended.groupby(["library", "epoch"], sort=False)["NDCG@10"].agg(["mean", "min", "max"]).reset_index()
fig = go.Figure()
for number, (library, part) in enumerate(of_epoch.groupby("library", sort=False)):
    fig.add_scatter(
        x=part["epoch"], y=part["mean"], name=library, mode="lines+markers", **figures.style(number),
        error_y=figures.whiskers(part["mean"], part["min"], part["max"]),
    )
fig.update_xaxes(title="epoch")
fig.update_yaxes(title="validation NDCG@10", rangemode="tozero")
figures.show(
    fig,
    caption=f"Validation quality at equal epochs on {ended.attrs['dataset'].capitalize()}, item IDs only, full cross-entropy: means over seeds, with the least and the most. No times: it ran elsewhere, in fp32.",
    alt="Curves of validation NDCG@10 over epochs for each library.",
    data=of_epoch,
)

# %% tags=["hide-input"]
best = costs.best_epochs(ended)
for library, value in best.set_index("library")["best NDCG@10"].items():
    record(f"best_ndcg10_{library}", value)
figures.table(best, f"The best of {ended.attrs['epochs']} epochs, and ours over each other library, with 95 % intervals over seeds, whose deviation is taken to be the same for all")

# %% [markdown]
# ## What bounds an epoch
#
# Cross-entropy over the whole catalogue needs three matrix products: scores, and the gradients of both sides. As plain calls of
# PyTorch on the same shapes, with nothing around them, they are the floor for any implementation that computes the loss exactly.

# %% tags=["hide-input"]
cost = costs.curve(results, "cost")
parts = cost[~cost["of"].str.startswith("alignment")]
fig = go.Figure()
fig.add_bar(
    x=parts["seconds"], y=parts["of"], orientation="h", error_x=figures.whiskers(parts["seconds"], parts["least"], parts["most"]),
)
fig.update_xaxes(title="seconds for the positions of one epoch")
fig.update_yaxes(autorange="reversed")
figures.show(
    fig,
    caption="Products alone, the epoch, and its two parts when each runs alone.",
    alt="Bars of seconds: plain products in bf16 and fp32, the reference epoch, cross-entropy alone, encoder alone, and the epoch in fp32.",
    data=parts.drop(columns="x"),
)

# %% tags=["hide-input"]
share = costs.ratio(cost, "reference", "bf16 products")
alone = costs.ratio(cost, "reference, cross-entropy alone", "bf16 products")
encoder = costs.ratio(cost, "reference, encoder alone", "bf16 products")
record("epoch_over_products", share)
Markdown(
    f"The epoch takes **{share:.2f} times** its bf16 products. The cross-entropy alone takes {alone:.2f} times them: beside the "
    "products it exponentiates every score once, which has no matrix unit to run on. The encoder, its backward pass and the "
    f"optimiser take another {encoder:.2f}: with width 64 its own products are small, and what "
    "it does at each position (normalisation, dropout, attention within short histories) moves much memory for little arithmetic. Were the encoder free, "
    f"the epoch would still take {share - encoder:.2f} times the products."
)

# %% [markdown]
# ## What alignment and experts add
#
# Selection reads the score blocks that the cross-entropy anchor makes anyway, so `topk` and `hard` pay for finding the best items and
# not for scoring them. The reference is frozen, so its states are computed once. Below are training costs; what a mixture costs at
# inference is measured in the [chapter on experts](experts).

# %% tags=["hide-input"]
aligned = cost[cost["of"].str.startswith("alignment")].copy()
plain = cost.set_index("of").loc["reference", "seconds"]
aligned["of"] = aligned["of"].str.removeprefix("alignment, ")
fig = go.Figure()
fig.add_bar(
    x=aligned["of"], y=aligned["seconds"] / plain,
    error_y=figures.whiskers(*(aligned[name] / plain for name in ("seconds", "least", "most"))),
)
fig.add_hline(y=1, line_dash="dot", line_color=figures.GREY)
fig.update_xaxes(title="strategy")
fig.update_yaxes(title="epoch, relative to plain training")
figures.show(
    fig,
    caption="An epoch of alignment over an epoch of the reference (dotted), by strategy, all with the cross-entropy anchor.",
    alt="A bar for each strategy: the cost of an alignment epoch relative to a plain one.",
    data=aligned.assign(relative=aligned["seconds"] / plain).drop(columns="x"),
)

# %% tags=["hide-input"]
encoders = costs.curve(results, "encoders")
of_fusion = costs.ratio(encoders, "sparse fusion", "dense twin of the fusion")
of_feedforward = costs.ratio(encoders, "sparse feedforward", "dense twin of the feedforward")
of_topk = costs.ratio(cost, "alignment, topk", "reference")
record("topk_over_plain_epoch", of_topk)
record("sparse_fusion_over_dense", of_fusion)
Markdown(
    f"`topk` takes **{of_topk:.2f} times** a plain epoch at K = {NegativesConfig().k}; how that depends on K is below. Training with a sparse mixture takes {of_fusion:.2f} times its dense twin as "
    f"fusion and {of_feedforward:.2f} times as feed-forward."
)

# %% [markdown]
# ## How it grows
#
# A step of fixed positions over the number of items: the full cross-entropy grows with the catalogue, the sampled one does not,
# because it encodes and updates only the items that it touches. An epoch grows with the users in it. A longer
# history costs little more per position. A deeper pool costs more to find.

# %% tags=["hide-input"]
axes = {
    "items": ("items in the catalogue", "log", "Items"),
    "users": ("users", "linear", "Users"),
    "length": ("items in each history", "linear", "History length"),
    "pool": ("pool size K", "log", "Pool size"),
}
curves = {name: costs.curve(results, name) for name in axes}
pick = {}
fig = go.Figure()
for name, found in curves.items():
    found = found[found["x"] > 0]
    for number, (of, part) in enumerate(found.groupby("of", sort=False)):
        pick.setdefault(axes[name][2], []).append(len(fig.data))
        fig.add_scatter(
            x=part["x"], y=part["seconds"], name=of, mode="lines+markers", **figures.style(number), showlegend=True,
            error_y=figures.whiskers(part["seconds"], part["least"], part["most"]),
        )
fig.update_xaxes(type="log", title="how many", dtick=1)
fig.update_yaxes(type="log", title="seconds", dtick=1)
figures.slider(fig, pick, "Items", "Over: ")
figures.show(
    fig,
    caption="Seconds of a training step (items, history length, pool size) or of an epoch (users). Both axes are logarithmic.",
    alt="Curves of seconds over items, users, history length and pool size; the sampled softmax is flat over items.",
    data=pd.concat(found.assign(over=axes[name][2]) for name, found in curves.items()),
)

# %% tags=["hide-input"]
sampled = curves["items"][curves["items"]["of"] == "sampled softmax"]
spread = 100 * (sampled["seconds"].max() / sampled["seconds"].min() - 1)
seeds = costs.curve(results, "seeds").pivot(index="x", columns="of", values="seconds")
gain = seeds["one after the other"] / seeds["side by side"]
record("sampled_step_spread_percent", spread)
pool = curves["pool"]
of_pool = pool[pool["x"] > 0].set_index("x")["seconds"] / pool.loc[pool["x"] == 0, "seconds"].iloc[0]
Markdown(
    f"A step with `topk` takes {', '.join(f'{times:.1f} times one without a preference loss at K = {k:,.0f}' if n == 0 else f'{times:.1f} at {k:,.0f}' for n, (k, times) in enumerate(of_pool.items()))}. "
    f"From {sampled['x'].min():,.0f} to {sampled['x'].max():,.0f} items the sampled step varies by {spread:.0f} %. Several seeds in one "
    f"process (`rodpo train --seeds 1,2,3`) take {1 / gain.max():.2f} to {1 / gain.min():.2f} times what they take one after the other on this "
    "CPU, which one seed keeps busy."
)

# %% [markdown]
# ## On a GPU
#
# The same epochs of Beauty on a GPU, in bf16 on both devices unless a line says otherwise. The two differ in kind: compare the ratios to the plain epoch of each.

# %% tags=["hide-input"]
gpu = costs.accelerator()
of_gpu = costs.on_a_gpu(gpu, results)
figures.table(
    of_gpu.round({"GPU, s": 2, "GPU, ratio": 2, "CPU, s": 1, "CPU, ratio": 2}),
    f"Median seconds of an epoch of {gpu['dataset'].capitalize()} on one {gpu['accelerator']} (torch {gpu['versions']['torch']}; {gpu['measured']}) and on the CPU above; ratios are to the plain epoch on the same device, of alignments to the reference and of encoders, which have random features in two modalities, to the linear fusion",
    rows=len(of_gpu),
)

# %% tags=["hide-input"]
on_gpu = {name: costs.curve(gpu, name) for name in ("cost", "inference", "encoders", "seeds")}
parts = {name: costs.ratio(on_gpu["cost"], of, "reference") for name, of in (("products", "bf16 products"), ("loss", "reference, cross-entropy alone"), ("encoder", "reference, encoder alone"), ("fp32", "reference, fp32"))}
together = on_gpu["seeds"].pivot(index="x", columns="of", values="seconds")
times = on_gpu["seeds"].groupby("of")[["least", "most"]].agg({"least": "min", "most": "max"}).loc["one after the other"]
together = together["side by side"] / together["one after the other"]
ranking = {name: costs.ratio(on_gpu["inference"], f"sparse {name}", f"dense twin of the {name}") for name in ("fusion", "feedforward")}
record("gpu_topk_over_plain_epoch", costs.ratio(on_gpu["cost"], "alignment, topk", "reference"))
record("gpu_sparse_fusion_inference_over_dense", ranking["fusion"])
Markdown(
    f"There the products, which bound an epoch on the CPU, take {parts['products']:.2f} of the plain epoch, the whole cross-entropy {parts['loss']:.2f}, and the encoder alone "
    f"{parts['encoder']:.2f}: it is not the large products that take the time; probably it is the many small operations of the encoder, one after the other, which were not profiled. In fp32 the epoch takes {parts['fp32']:.2f} times that in bf16. "
    f"Several seeds computed as one (`rodpo grid --replicas`) take, on a small synthetic world, {story.listed(f'{ratio:.2f} times as long with {seeds:.0f} seeds' for seeds, ratio in together.items())} as one after the other, "
    f"where a seed took between {times['least']:.2f} and {times['most']:.2f} s. "
    f"**At inference**, to rank every user among all items takes a sparse mixture {ranking['fusion']:.2f} times its dense twin as fusion, where items are encoded once, and "
    f"{ranking['feedforward']:.2f} times as feed-forward, where every position is routed. Training with it takes "
    f"{costs.ratio(on_gpu['encoders'], 'sparse fusion', 'dense twin of the fusion'):.2f} and {costs.ratio(on_gpu['encoders'], 'sparse feedforward', 'dense twin of the feedforward'):.2f} times."
)

# %% [markdown]
# ## Does bf16 cost quality?
#
# Products round to 8 bits; everything else, sums included, stays in fp32. Runs that differ in nothing else, with the
# features of the items, validation NDCG@5:

# %% tags=["hide-input"]
pairs = costs.precision()
change = costs.mean_change(pairs)
fig = go.Figure()
for name, part in pairs.groupby("dataset", sort=False):
    fig.add_scatter(x=part["seed"].astype(str), y=part["change"], name=name, mode="markers", **figures.style(name))
fig.add_hline(y=0, line_dash="dot", line_color=figures.GREY)
fig.update_xaxes(title="seed")
fig.update_yaxes(title="bf16 against fp32, %")
figures.show(
    fig,
    caption="Change of validation NDCG@5 when products are computed in bf16 instead of fp32.",
    alt="A point for each dataset and seed, scattered around zero.",
    data=pairs.rename(columns={"change": "change, %"}),
)
record("bf16_change_percent", change.estimate)
counts = ", ".join(f"{len(part)} on {name.capitalize()}" for name, part in pairs.groupby("dataset", sort=False))
Markdown(f"Pairs of runs: {counts}. On average {change.text()}, the 95 % interval over {pairs['seed'].nunique()} seeds.")

# %% [markdown]
# ## Takeaways
#
# - Compare times within a figure, where everything took turns. The plain epoch of Beauty stands in three of them, measured at different hours, and they differ
#   by more than some strategies do.
# - Exact cross-entropy over a catalogue of ten thousand items needs no GPU: an epoch is a few seconds on two cores.
# - Scores for the selection are a by-product of the anchor; finding the best of them is not, and takes what the bars of the strategies differ by.
# - On a large catalogue sampling makes a step cheaper; exercise 1 says from where on, and by how much.
#
# ## Exercises
#
# Guess first, then open what stands below the question.
#
# **1. Where does sampling start to pay?** One curve grows with the catalogue, the other does not. By how much is a step of the sampled
# softmax cheaper, and where would the two meet?

# %% tags=["hide-cell"]
by_loss = curves["items"].pivot_table(index="x", columns="of", values="seconds")
by_loss["full over sampled"] = by_loss["full cross-entropy"] / by_loss["sampled softmax"]
figures.table(by_loss.rename_axis("items"), "Seconds of a step over the catalogue")
first, second = by_loss.index[:2]
slope = by_loss["full cross-entropy"].diff().iloc[1] / (second - first)
meets = first - (by_loss["full cross-entropy"] - by_loss["sampled softmax"]).iloc[0] / slope
Markdown(f"A straight line through the first two full steps meets the sampled step at about {max(meets, 0):,.0f} items.")

# %% [markdown]
# :::{dropdown} Why
# The full cross-entropy multiplies every position by every item, forwards and twice backwards; the sampled one multiplies by its sample,
# whatever the catalogue. What does not depend on the catalogue, such as the encoder, costs both the same, so that a full step should grow
# less than in proportion; between the last two sizes it grew more, and why was not measured. So the straight line through the first two
# points is only a guess about where the two would meet.
# :::
#
# **2. What would a free selection change?** `topk` reads score blocks that the anchor has made. If finding the best items cost nothing,
# how much of an alignment epoch would be left?

# %% tags=["hide-cell"]
of_strategy = aligned.set_index("of")["seconds"]
figures.table(
    (of_strategy / plain).rename("times a plain epoch").to_frame(),
    "An epoch of alignment with each strategy",
)

# %% [markdown]
# :::{dropdown} Why
# Compare `topk` with `uniform`: both compute the states of the policy and of the frozen reference, the anchor and the preference loss;
# what lies between them is the search for the best items and another way to draw. `none` has no preference loss at all.
# :::
#
# **3. Does it hold on your machine?** `make bench ARGS="--only ours --fresh"` measures ours again. Which of the ratios above moves?
#
# :::{dropdown} Answer
# Nobody can say beforehand, which is why it is a question: the page holds for the machine that it names. Seconds will differ. Look first at
# the ratios that rest on bf16 products, which not every processor has in hardware.
# :::
#
# **Next:** [reproduce it yourself](../reproduce).
