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
# # Sensitivity
#
# **You will learn** how much the settings that the paper does not name move the result, and where alignment helps most.
#
# *Reading: 4 minutes. Running: seconds. Before this: [results](results).* The paper's text fixes neither $K$, $\beta$, the learning rate
# nor the weight of the cross-entropy anchor. Before the reported runs, each strategy was tried at the same number of settings on
# validation, with a seed of its own. Those trials are shown here, all of them: what was chosen and what was not.

# %% tags=["parameters"]
profile = "smoke"
ledger_folder = "../data/results"

# %%
from pathlib import Path

import plotly.graph_objects as go
from IPython.display import Markdown

from rodpo_lite import comparison, figures
from rodpo_lite.book import record
from rodpo_lite.grid import Grid
from rodpo_lite.plan import GRID

figures.setup()
grid = Grid.read(GRID)
tried = comparison.trials(grid, Path(ledger_folder))

# %% [markdown]
# ## Every setting that was tried
#
# One seed, one run a point, so that a difference of a percent or two may be luck. What moves all strategies alike, or by more than
# that, is not.

# %% tags=["hide-input"]
AXES = {
    "training.learning_rate": ("learning rate", "log"),
    "loss.beta": ("β", "log"),
    "training.lambda_ce": ("weight of the cross-entropy anchor", "linear"),
    "negatives.k": ("pool size K", "log"),
}
SHOWN = ("none", "uniform", "hard", "topk", "static_topk")
fig, groups, count = go.Figure(), {}, 0
for key, (label, _) in AXES.items():
    for name in SHOWN:
        part = tried[(tried["row"] == name) & tried[key].notna()].sort_values(key)
        if part.empty:
            continue
        fig.add_scatter(
            x=part[key], y=part["change %"], name=name, mode="markers", marker=figures.style(name)["marker"], text=part["dataset"],
            hovertemplate="%{text}: %{y:.1f} % at %{x}",
        )  # fmt: skip
        groups.setdefault(label, []).append(count)
        count += 1
if count:
    fig.add_hline(y=0, line_dash="dot", line_color=figures.GREY)
    fig.update_xaxes(title="value")
    fig.update_yaxes(title="validation NDCG@5 against the reference, %")
    figures.slider(fig, groups, next(iter(groups)), "Over: ")
    figures.show(
        fig,
        caption="Validation of every tried setting against the reference that it started from, all items ranked.",
        alt="Points for each strategy over learning rate, beta, weight of the anchor and pool size; most lie below zero.",
        data=tried[tried["row"].isin(SHOWN)].drop(columns="training.dropout"),
    )

# %% tags=["hide-input"]
if tried.empty:
    text = "No trial is on record yet."
else:
    preference = tried[tried["row"] != "none"]
    with_anchor = preference[preference["training.lambda_ce"] > 0]["change %"]
    without = preference[preference["training.lambda_ce"] == 0]["change %"]
    best = tried.loc[tried["change %"].idxmax()]
    record("trials", len(tried))
    record("median_change_with_anchor", with_anchor.median())
    record("median_change_without_anchor", without.median())
    text = (
        f"Of {len(tried)} trials, {(tried['change %'] > 0).sum()} end above their reference. The best of all, `{best['row']}` on "
        f"{best['dataset'].capitalize()}, gains {best['change %']:+.1f} %. With a cross-entropy anchor the median preference trial changes "
        f"{with_anchor.median():+.1f} %, without one {without.median():+.1f} %."
    )
Markdown(text)

# %% [markdown]
# ## What was chosen

# %% tags=["hide-input"]
figures.table(
    tried[tried["chosen"].astype(bool)].drop(columns="chosen"),
    "The settings of the reported runs, and their validation NDCG@5 against the reference on the tuning seed",
)

# %% [markdown]
# **Take away**
#
# - The anchor and the learning rate decide more than the selector does; compare selectors only at settings tuned alike.
#
# **Exercise.** Add a value to a `search` in `workflow/grid.yaml` under a new row name. What does `rodpo grid --plan` say it costs?
#
# **Next:** [cost and scaling](cost).
