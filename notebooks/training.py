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
# # Training: the reference, then alignment
#
# **The question.** What happens between a trained recommender and an aligned one?
#
# **The answer.** A few more epochs of the same training, with a pair of items added at each position. So the row to
# beat is not the model before alignment but the same epochs without the pairs, which this book calls `none`.
#
# *Reading: 8 minutes. Running: about a minute. Before this: [gradients under false negatives](gradients).*

# %% tags=["parameters", "hide-input"]
profile = "smoke"
data = ""  # a folder, or a name in RODPO_DATA; empty makes a fresh synthetic world
seed = 0
epochs = 20  # of the reference
width = 32
dropout = 0.4
k = 20  # pool size K
beta = 0.5

# %% tags=["hide-input"]
import tempfile
from pathlib import Path

import pandas as pd
import plotly.graph_objects as go
from companion.site import figures
from companion.site.pages import record, record_defaults
from IPython.display import Markdown

from rodpo_lite.config import AlignmentConfig, AlignmentTrainingConfig, ReferenceConfig, TrainingConfig
from rodpo_lite.data.synthetic import open_world
from rodpo_lite.evaluation import metrics
from rodpo_lite.evaluation.statistics import user_bootstrap
from rodpo_lite.settings import build
from rodpo_lite.training import runs
from rodpo_lite.training.alignment import AlignmentObjective
from rodpo_lite.training.results import evaluate

figures.setup()
dataset, _ = open_world(data, seed)
holder = tempfile.TemporaryDirectory()
space = Path(holder.name)

# %% [markdown]
# ## Stage 1: the reference
#
# An item's vector is the sum of an ID embedding and what text and image say about it; a causal Transformer reads the
# vectors of a history, and its last state scores every item by a dot product {cite}`kang2018sasrec`. The loss is
# cross-entropy over the *whole* catalogue at every position, and the learning rate decays to zero. The weights of the
# best epoch on validation are kept. A reference that is not at its best hands its unfinished gains to whatever is
# trained next, and then a comparison with it flatters DPO; what such gains are is what `none` below is for.

# %%
settings = {
    "seed": seed,
    "encoder": {"width": width, "dropout": dropout},
    "training": {
        "epochs": epochs,
        "patience": epochs,  # the whole schedule
        "precision": "fp32",  # the same numbers on any machine
    },
}
reference = runs.train(dataset, build(ReferenceConfig, settings), space / "reference")
curve = pd.read_json(space / "reference" / "history.jsonl", lines=True)
curve["unmasked"] = curve["valid"].str["ndcg@5"]
curve["masked"] = curve["valid_masked"].str["ndcg@5"]

# %% tags=["hide-input"]
fig = go.Figure()
for number, (part, label) in enumerate((("unmasked", "all items"), ("masked", "history dropped"))):
    points = {"x": curve["epoch"], "y": curve[part], "name": label}
    fig.add_scatter(**points, mode="lines+markers", **figures.style(number))
fig.add_vline(x=reference["best_epoch"], line_dash="dot", line_color=figures.GREY, annotation_text="kept")
fig.update_xaxes(title="epoch")
fig.update_yaxes(title="validation NDCG@5", rangemode="tozero")
table = curve[["epoch", "loss", "unmasked", "masked"]]
figures.show(
    fig,
    caption="The reference learns. “History dropped” removes the items that the user already has from the ranking. "
    f"Epoch {reference['best_epoch']} of {epochs} is kept.",
    alt="Two curves of validation NDCG@5 over epochs; the one without history lies above and rises longer.",
    data=table.rename(columns={"unmasked": "all items", "masked": "history dropped"}),
)
record("reference_valid_ndcg5", reference["valid"]["ndcg@5"])
record_defaults(TrainingConfig)
record_defaults(AlignmentTrainingConfig)

# %% tags=["hide-input"]
best, last = curve.set_index("epoch").loc[reference["best_epoch"]], curve.iloc[-1]
early = (
    "So this reference is at its best by the measure that chose it, early in its schedule, and not at its end: what "
    "follows may also gain from the training that it lacks."
)
Markdown(
    f"From the kept epoch to the last, the training loss falls from {best['loss']:.2f} to {last['loss']:.2f}, "
    f"validation with all items ranked moves from {best['unmasked']:.4f} to {last['unmasked']:.4f}, and with the "
    f"history dropped from {best['masked']:.4f} to {last['masked']:.4f}. "
    f"{early if reference['best_epoch'] < 0.8 * epochs else 'It was kept near the end of its schedule.'}"
)

# %% [markdown]
# ## Stage 2: alignment
#
# Every contestant starts from this reference, gets the same steps, learning rate and cross-entropy anchor, and differs
# only in the rejected item:
#
# | strategy | the rejected item |
# |---|---|
# | `none` | there is none: cross-entropy simply goes on. *Is it just more training?* |
# | `uniform` | any eligible item |
# | `hard` | the eligible item that the policy scores highest |
# | `topk` | drawn at random from the $K$ best under the current policy: RoDPO {cite}`huang2026rodpo` |
#
# $K$ and β are those of the chapters before. On real data they are chosen on validation for each strategy, and come
# out otherwise ([sensitivity](sensitivity)). A step, as it stands in the package:

# %% tags=["hide-input"]
figures.source(AlignmentObjective.losses)

# %% [markdown]
# What `_select` returns beside the negatives is the anchor: both read the same blocks of scores, so a pool costs no
# product of its own.

# %%
strategies = ["none", "uniform", "hard", "topk"]
shared = AlignmentTrainingConfig(epochs=6, precision="fp32")
results, curves = {}, {}
for name in strategies:
    stage = {
        "seed": seed,
        "negatives": {"name": name, "k": k},
        "loss": {"beta": beta},
        "training": {"epochs": shared.epochs, "precision": shared.precision},
    }
    runs.align(dataset, space / "reference", build(AlignmentConfig, stage), space / name)
    results[name] = evaluate(dataset, space / name)
    history = pd.read_json(space / name / "history.jsonl", lines=True)
    curves[name] = list(history["valid"].str["ndcg@5"])
results["reference"] = evaluate(dataset, space / "reference")

# %% tags=["hide-input"]
table = pd.DataFrame(curves, index=range(1, len(curves["none"]) + 1)).rename_axis("epoch")
fig = go.Figure()
for name in strategies:
    fig.add_scatter(x=table.index, y=table[name], name=name, mode="lines+markers", **figures.style(name))
start = reference["valid"]["ndcg@5"]
fig.add_hline(y=start, line_dash="dot", line_color=figures.GREY, annotation_text="reference")
fig.update_xaxes(title="epoch of alignment", dtick=1)
fig.update_yaxes(title="validation NDCG@5, all items")
figures.show(
    fig,
    caption="Validation during alignment. The vertical axis does not start at zero.",
    alt="Four curves of validation NDCG@5 over six epochs of alignment, and the reference as a dotted line.",
    data=table,
)

# %% [markdown]
# ## On the test items: one run of each, which decides nothing
#
# Each test item is ranked against the whole catalogue, once, after training has ended. Differences are paired: the same
# users, with and without alignment.

# %%
ranks = {name: pd.read_parquet(space / name / "ranks.parquet")["rank"].to_numpy() for name in results}
ndcg = {name: metrics.ndcg(rank) for name, rank in ranks.items()}
gain = {name: user_bootstrap(ndcg["reference"], ndcg[name]) for name in strategies}
rows = {
    "NDCG@5": {name: result["unmasked"]["ndcg@5"] for name, result in results.items()},
    "NDCG@5, history dropped": {name: result["masked"]["ndcg@5"] for name, result in results.items()},
    "HR@10": {name: result["unmasked"]["hr@10"] for name, result in results.items()},
    "NDCG@5 against reference": {"reference": "–"} | {name: gain[name].text(1) for name in strategies},
}
table = pd.DataFrame(rows).loc[["reference", *strategies]].rename_axis("strategy")
figures.table(table, f"Test results on {dataset.name}, seed {seed}; 95 % intervals over users")
for name in strategies:
    record(f"test_ndcg5_{name}", results[name]["unmasked"]["ndcg@5"])

# %% tags=["hide-input"]
clear = [f"`{name}`" for name in strategies if gain[name].low > 0 or gain[name].high < 0]
Markdown(
    f"All had {shared.epochs} epochs, learning rate {shared.learning_rate:g} and anchor λ = {shared.lambda_ce:g}. The "
    f"interval of the change excludes zero for {', '.join(clear) or 'no strategy'}. Such intervals say how sure the "
    f"result is for *these weights* over {dataset.n_users:,} users; another training seed would move every row, so "
    f"one run decides nothing. Continued cross-entropy, `none`, changes by {gain['none'].text(1)} here; on validation "
    f"its best epoch has {max(curves['none']):.4f}, and the reference {start:.4f}."
)

# %% [markdown]
# *Change this and rerun:* with another `seed`, both the world and the training are new; look at whether the strategies
# keep their order in the table, and at how far the row of the reference moves.
#
# ## Exercises
#
# Guess first, then open the cell below the question: it computes the answer.
#
# **1. The right rival.** The last column of the table compares with the reference. Compare every preference with
# continued cross-entropy instead: what becomes of its gain?

# %% tags=["hide-cell"]
rivals = {name: gain[name].text(1) for name in strategies if name != "none"}
against = {name: user_bootstrap(ndcg["none"], ndcg[name]).text(1) for name in rivals}
table = pd.DataFrame({"against reference": rivals, "against none": against}).rename_axis("strategy")
figures.table(table, "Change of NDCG@5 on the test items, paired over users, 95 % intervals")

# %% [markdown]
# :::{dropdown} Why
# All contestants share the steps, the learning rate and the anchor, and these alone move the reference. What a
# preference adds is what remains beside `none`. It is one seed, so what this table says of a strategy is a hint and no
# more.
# :::
#
# **2. Who decides?** For how many users does NDCG@5 differ between `topk` and `none`? If the mix of users stayed as it
# is, from how many users on would the interval of that difference exclude zero?

# %% tags=["hide-cell"]
differ = ndcg["topk"] != ndcg["none"]
change = user_bootstrap(ndcg["none"], ndcg["topk"])
half = (change.high - change.low) / 2
needed = len(differ) * (half / change.estimate) ** 2
Markdown(
    f"For {differ.sum():,} of {len(differ):,} users, {differ.mean():.1%}. The change is "
    f"{change.text(1)}; from about {needed:,.0f} users on such an interval would exclude zero."
)

# %% [markdown]
# :::{dropdown} Why
# NDCG@5 is zero wherever the target is not among the best five, and equal wherever its rank is, so few users carry the
# difference. The width of an interval falls with the square root of their number: half the width takes four times the
# users.
# :::
#
# **3. Without the anchor.** With `lambda_ce = 0` nothing but pairs is left: each position compares its target with one
# item of the pool, and the rest of the catalogue is not looked at. Align with `topk` for as many such epochs. Does the
# ranking hold, and what is left of it beside `none`?

# %% tags=["hide-cell"]
stage = {
    "seed": seed,
    "negatives": {"name": "topk", "k": k},
    "loss": {"beta": beta},
    "training": {"epochs": shared.epochs, "lambda_ce": 0.0, "precision": "fp32"},
}
pairs_only = space / "pairs only"
runs.align(dataset, space / "reference", build(AlignmentConfig, stage), pairs_only)
evaluate(dataset, pairs_only)
pairs_ndcg = metrics.ndcg(pd.read_parquet(pairs_only / "ranks.parquet")["rank"].to_numpy())
against = {name: user_bootstrap(ndcg[name], pairs_ndcg).text(1) for name in ("reference", "none")}
Markdown(f"NDCG@5 changes by {against['reference']} against the reference, and by {against['none']} against `none`.")

# %% [markdown]
# :::{dropdown} Why
# A pair whose rejected item comes from the top of the list is a ranking loss as well: it asks for the target to stand
# above what stands there now. The rest of the catalogue needs no push as long as it stays where the reference has put
# it. Nothing but the anchor sees to that: an item that is never drawn gets no gradient of its own, and with every step
# it may drift.
# :::
#
# ## Takeaways
#
# - One loop trains both stages; alignment adds one frozen forward pass and a pool taken from scores that the
#   cross-entropy has computed anyway.
# - `none` is the control that matters: whatever it gains is training, not preference.
# - A single seed on a small world is a demonstration. [The results](results) use real data.
#
# **Next:** [the sparse mixture-of-experts encoder](experts).
