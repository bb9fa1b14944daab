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
# **The question.** What do an alignment, a mixture and an epoch cost on two CPU cores, and what bounds that?
#
# ```{margin}
# Numbers are read from `benchmarks/curves.json`, which `make bench` writes, and from files beside it. Unless a section
# says otherwise the model is SASRec {cite}`kang2018sasrec` with 2 blocks, width 64, 2 heads, at most 50 items, item IDs
# only.
# ```
#
# *Reading: 6 minutes. Running: seconds. Before this: [training](training).*

# %% tags=["parameters", "hide-input"]
profile = "smoke"

# %% tags=["hide-input"]
import pandas as pd
import plotly.graph_objects as go
from companion.evidence.grid import Grid
from companion.evidence.ledger import Ledger
from companion.evidence.plan import GRID
from companion.findings import costs, runs
from companion.findings.sentences import render
from companion.site import figures
from companion.site.pages import record
from IPython.display import Markdown

figures.setup()
ours = costs.measured("curves")
cost = costs.curve(ours, "cost")

# %% tags=["hide-input"]
sizes = {one["size"] for one in runs.pool(Grid.read(GRID), Ledger.open())["pools"]}
added = costs.added(cost, costs.curve(ours, "encoders"), costs.curve(ours, "pool"), sorted(sizes))
record("topk_over_plain_epoch", added["topk"])
record("sparse_fusion_over_dense", added["fusion"])
torch, dataset = ours["versions"]["ours"]["torch"], ours["dataset"].capitalize()
measured = render("measured", date=ours["date"], machine=ours["machine"], torch=torch, dataset=dataset)
said = render("alignment_cost", **added)
Markdown(f"**The answer.** {said}\n\n{measured}")

# %% [markdown]
# ## What alignment and experts add
#
# Selection reads the score blocks that the cross-entropy anchor makes anyway, so `topk` and `hard` pay for finding the
# best items and not for scoring them. The reference is frozen, so its states are computed once. Below are training
# costs; what a mixture costs at inference is measured in the [chapter on experts](experts).

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
    caption="An epoch of alignment over an epoch of the reference (dotted), by strategy, all with the cross-entropy "
    "anchor.",
    alt="A bar for each strategy: the cost of an alignment epoch relative to a plain one.",
    data=aligned.assign(relative=aligned["seconds"] / plain).drop(columns="x"),
)

# %% [markdown]
# ## How it grows
#
# A step of fixed positions over the number of items: the full cross-entropy grows with the catalogue, the sampled one
# does not, because it encodes and updates only the items that it touches. An epoch grows with the users in it. A longer
# history costs little more per position, and a pool a hundred times as large little more to find.

# %% tags=["hide-input"]
AXES = {"items": "Items", "users": "Users", "length": "History length", "pool": "Pool size"}
curves = {name: costs.curve(ours, name) for name in AXES}
fig, pick = go.Figure(), {}
for name, label in AXES.items():
    for number, (of, part) in enumerate(curves[name].query("x > 0").groupby("of", sort=False)):
        pick.setdefault(label, []).append(len(fig.data))
        fig.add_scatter(
            x=part["x"], y=part["seconds"], name=of, mode="lines+markers", **figures.style(number), showlegend=True,
            error_y=figures.whiskers(part["seconds"], part["least"], part["most"]),
        )
fig.update_xaxes(type="log", title="how many", dtick=1)
fig.update_yaxes(type="log", title="seconds", dtick=1)
figures.slider(fig, pick, "Items", "Over: ")

# %% tags=["hide-input"]
figures.show(
    fig,
    caption="Seconds of a training step (items, history length, pool size) or of an epoch (users). Both axes are "
    "logarithmic.",
    alt="Curves of seconds over items, users, history length and pool size; the sampled softmax is flat over items.",
    data=pd.concat(part.assign(over=AXES[name]) for name, part in curves.items()),
)

# %% tags=["hide-input"]
growth = costs.growth(curves, costs.curve(ours, "seeds"))
record("sampled_step_spread_percent", growth["spread"])
Markdown(render("growth", **growth))

# %% [markdown]
# ## What bounds an epoch
#
# Cross-entropy over the whole catalogue needs three matrix products: scores, and the gradients of both sides. As plain
# calls of PyTorch on the same shapes, with nothing around them, they are the floor for any implementation that computes
# the loss exactly.

# %% tags=["hide-input"]
floor, slower = costs.products(cost)
parts = cost[~cost["of"].str.startswith("alignment") & (cost["of"] != slower)]
fig = go.Figure()
fig.add_bar(
    x=parts["seconds"], y=parts["of"], orientation="h",
    error_x=figures.whiskers(parts["seconds"], parts["least"], parts["most"]),
)
fig.update_xaxes(title="seconds for the positions of one epoch")
fig.update_yaxes(autorange="reversed")
figures.show(
    fig,
    caption="Products alone, the epoch, and its two parts when each runs alone.",
    alt="Bars of seconds: plain products, the reference epoch, cross-entropy alone, encoder alone, and the epoch in "
    "fp32.",
    data=parts.drop(columns="x"),
)

# %% tags=["hide-input"]
of = {"cross_entropy": "reference, cross-entropy alone", "encoder": "reference, encoder alone", "slower": slower}
products = costs.ratios(cost, floor, epoch="reference", **of)
record("epoch_over_products", products["epoch"])
Markdown(render("products", precision=floor.split()[0], other=slower.split()[0], **products))

# %% [markdown]
# ## On a GPU
#
# The same epochs of Beauty on a GPU, in bf16 there unless a line says otherwise. The two differ in kind: compare the
# ratios to the plain epoch of each.

# %% tags=["hide-input"]
gpu = costs.measured("accelerator")
of_gpu = costs.on_a_gpu(gpu, ours)
figures.table(
    of_gpu.round({"GPU, s": 2, "GPU, ratio": 2, "CPU, s": 1, "CPU, ratio": 2}),
    f"Median seconds of an epoch of {gpu['dataset'].capitalize()} on one {gpu['accelerator']} (torch "
    f"{gpu['versions']['torch']}; {gpu['measured']}; K = {gpu['k']}) and on the CPU above; ratios are to the plain "
    "epoch on the same device, of alignments to the reference and of encoders, which have random features in two "
    "modalities, to the linear fusion",
    rows=len(of_gpu),
)

# %% tags=["hide-input"]
there = costs.gpu_ratios(gpu)
record("gpu_topk_over_plain_epoch", there["topk"])
record("gpu_sparse_fusion_inference_over_dense", there["inference"]["fusion"])
Markdown(render("gpu", **there))

# %% [markdown]
# ## Does bf16 cost quality?
#
# Products round to 8 bits; everything else, sums included, stays in fp32. Runs that differ in nothing else, with the
# features of the items, validation NDCG@5:

# %% tags=["hide-input"]
pairs = pd.DataFrame(costs.measured("precision")["pairs"])
pairs["change"] = 100 * (pairs["bf16"] / pairs["fp32"] - 1)
fig = go.Figure()
for name, part in pairs.groupby("dataset", sort=False):
    look = figures.style(name)
    fig.add_scatter(x=part["seed"].astype(str), y=part["change"], name=name, mode="markers", **look)
fig.add_hline(y=0, line_dash="dot", line_color=figures.GREY)
fig.update_xaxes(title="seed")
fig.update_yaxes(title="bf16 against fp32, %")
figures.show(
    fig,
    caption="Change of validation NDCG@5 when products are computed in bf16 instead of fp32.",
    alt="A point for each dataset and seed, scattered around zero.",
    data=pairs.rename(columns={"change": "change, %"}),
)

# %% tags=["hide-input"]
changed = costs.precision_change(pairs)
record("bf16_change_percent", changed["change"]["estimate"])
Markdown(render("precision_cost", **changed))

# %% [markdown]
# ## Takeaways
#
# - Compare times within a figure, where everything took turns. The plain epoch of Beauty was measured at different
#   hours, and those differ by more than some strategies do.
# - Exact cross-entropy over a catalogue of ten thousand items needs no GPU: an epoch takes seconds on two cores.
# - Scores for the selection are a by-product of the anchor; finding the best of them is not, and takes what the bars of
#   the strategies differ by.
# - On a large catalogue sampling makes a step cheaper; exercise 1 says from where on, and by how much.
#
# ## Exercises
#
# Guess first, then open what stands below the question.
#
# **1. Where does sampling start to pay?** One curve grows with the catalogue, the other does not. By how much is a step
# of the sampled softmax cheaper, and where would the two meet?

# %% tags=["hide-cell"]
by_loss = costs.full_over_sampled(curves["items"])
figures.table(by_loss.rename_axis("items"), "Seconds of a step over the catalogue")
Markdown(render("sampling_pays", meets=costs.meeting_point(by_loss)))

# %% [markdown]
# :::{dropdown} Why
# The full cross-entropy multiplies every position by every item, forwards and twice backwards; the sampled one
# multiplies by its sample, whatever the catalogue. What does not depend on the catalogue, such as the encoder, costs
# both the same, so that a full step should grow less than in proportion; between the last two sizes it grew more, and
# why was not measured. So the straight line through the first two points is only a guess about where the two would
# meet.
# :::
#
# **2. What would a free selection change?** `topk` reads score blocks that the anchor has made. If finding the best
# items cost nothing, how much of an alignment epoch would be left?

# %% tags=["hide-cell"]
of_strategy = aligned.set_index("of")["seconds"]
figures.table(
    (of_strategy / plain).rename("times a plain epoch").to_frame(),
    "An epoch of alignment with each strategy",
)

# %% [markdown]
# :::{dropdown} Why
# Compare `topk` with `uniform`: both compute the states of the policy and of the frozen reference, the anchor and the
# preference loss; what lies between them is the search for the best items and another way to draw. `none` has no
# preference loss at all.
# :::
#
# **3. Does it hold on your machine?** `make bench ARGS="--only scaling --fresh"` measures ours again. Which of the
# ratios above moves?
#
# :::{dropdown} Answer
# Nobody can say beforehand, which is why it is a question: the page holds for the machine that it names. Seconds will
# differ. Look first at the ratios that rest on bf16 products, which not every processor has in hardware.
# :::
#
# **Next:** [beside other libraries](peers).
