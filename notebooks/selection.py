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
# # Negative selection
#
# **The question.** Which item should be rejected?
#
# **The answer.** The hardest item is the one most likely to be wanted, and a random item of the catalogue competes with
# nothing. Between them lies a trade, and what it is worth depends on what one counts as a right push.
#
# *Reading: 12 minutes. Running: about a minute. Before this: [gradients under false negatives](gradients).*

# %% tags=["parameters", "hide-input"]
profile = "smoke"
seed = 0
k = 20  # pool size K
beta = 0.5
positions = 2000  # next-item predictions on which everything is measured

# %% tags=["hide-input"]
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from companion.demonstrations import selection
from companion.findings.sentences import listed
from companion.site import figures
from companion.site.pages import record, record_defaults
from IPython.display import Markdown

from rodpo_lite.evaluation.statistics import signed
from rodpo_lite.losses.preference import LossConfig
from rodpo_lite.mechanism import rank_profiles
from rodpo_lite.sampling import selectors
from rodpo_lite.sampling.selectors import SELECTORS, NegativesConfig

figures.setup()
holder = tempfile.TemporaryDirectory()

# %% [markdown]
# ## Scores, the best K, one at random
#
# As it stands in the package. `of_ranks` draws from the best without sorting the catalogue: where they are many, items
# are proposed at random until one of them scores at least what the K-th does.

# %% tags=["hide-input"]
figures.source(selectors.topk, selectors.hard, selectors.uniform)

# %% [markdown]
# ## A world with known answers
#
# As in [gradients](gradients): a reference on the [synthetic world](data), a policy aligned from it for a few epochs,
# and for every candidate the answer to *would this user have wanted it?* All scores are taken with dropout off.

# %%
world = selection.SmallWorld.train(Path(holder.name), seed)
dataset, reference = world.dataset, world.reference
aligned = {name: world.align(name, k, beta) for name in ("none", "uniform", "topk", "hard")}
profiles = {name: world.profile(run.model, positions) for name, run in aligned.items()}
of_topk = profiles["topk"]

# %% [markdown]
# ## What each selector pushes
#
# Expected suppression per position: *erroneous* is what lands on a false negative, *informative* the rest, and *noise*
# the variance of one draw's push over its squared mean. Where probabilities are stated these are exact sums; `srns` and
# `ahns` are drawn. The dotted line is what *every* strategy shares: the cross-entropy anchor pushes each item by
# $\lambda_\mathrm{ce}\,\pi(j \mid S)$, here at $\lambda_\mathrm{ce} = 1$.

# %% tags=["hide-input"]
loss = LossConfig(beta=beta)
settings = {name: NegativesConfig(name=name, k=k, candidates=100, skip=5) for name in SELECTORS}
suppression = {name: selection.suppression(of_topk, negatives, loss) for name, negatives in settings.items()}
noise = {name: selection.noise(of_topk, negatives, loss) for name, negatives in settings.items()}
pushes = selection.summary({**suppression, "anchor": selection.anchor(of_topk)})
pushes["noise of one draw"] = pd.Series(noise)
change = selection.change(suppression["hard"], suppression["topk"])
record("erroneous_topk_against_hard_percent", change["erroneous"].estimate)
record_defaults(NegativesConfig)

# %% tags=["hide-input"]
ordered = pushes.drop(index="anchor").sort_values("erroneous share", ascending=False)
shares = ordered["erroneous share"]
fig = go.Figure(go.Bar(y=shares.index, x=shares, orientation="h"))
fig.add_vline(x=pushes.loc["anchor", "erroneous share"], line_dash="dot", line_color=figures.GREY)
fig.update_layout(height=340)
fig.update_xaxes(title="erroneous share of the push", tickformat=".0%")
fig.update_yaxes(autorange="reversed")
figures.show(
    fig,
    caption="Which part of each selector's push lands on false negatives. Dotted: the same of the anchor, which no "
    f"selector changes. K = {k}, β = {beta}, over about {positions:,} positions.",
    alt=f"Horizontal bars from {shares.iloc[0]:.0%} for {shares.index[0]} to {shares.iloc[-1]:.0%} for "
    f"{shares.index[-1]}.",
    data=pushes.loc[[*ordered.index, "anchor"]].reset_index(),
)

# %% tags=["hide-input"]
usual = NegativesConfig()
low, high = usual.ahns_beta / (1 + usual.ahns_alpha), usual.ahns_beta / usual.ahns_alpha
Markdown(
    f"Averaged first within users, drawing from the top {k} changes erroneous suppression by "
    f"**{change['erroneous'].text(1)}** against `hard` and informative suppression by "
    f"**{change['informative'].text(1)}** (95 % intervals over users; one world, one training seed, one policy). A low "
    "bar is no merit by itself: `uniform` has one because it hardly meets what is wanted, and `ahns` because it aims "
    f"at middling scores, between {low:.2f} and {high:.2f} after the sigmoid at its defaults."
)

# %% [markdown]
# ## The family
#
# A selector sees the scores of a position, the items that may not be rejected (always the positive, and by
# `negatives.exclude` the user's own), popularity, and a random generator. The scores are those of the policy unless it
# says otherwise. Of all but `srns` and `ahns` the probability of each item in one draw can be stated, and tests compare
# drawn frequencies with it.

# %% tags=["hide-input"]
rows = {
    "selector": list(SELECTORS),
    "what it draws": [selector.summary for selector in SELECTORS.values()],
    "keys": [", ".join(selector.uses) or "–" for selector in SELECTORS.values()],
}
figures.table(pd.DataFrame(rows), "Every registered selector")

# %% [markdown]
# `popularity` comes from word vectors {cite}`mikolov2013words`; `dns` {cite}`zhang2013dns` was analysed by
# {cite:t}`shi2023dnsmn`; `srns` {cite}`ding2020srns` and `ahns` {cite}`lai2024ahns` look for negatives that are hard
# and yet not false.

# %% [markdown]
# ## Where the trade turns
#
# Leaving the hardest item for a pool saves mistakes and gives up hardness. As long as the pool's *informative* push is
# above that of `hard`, fewer pushes are wrong **and** more are right. Where it falls below, every mistake saved costs a
# right push. What counts as a right push is a choice: any push on an item that is not wanted, or only one on the best
# 10, 20 or 50 items, which compete with the target for a place in the list.

# %% tags=["hide-input"]
betas = [0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0]
readings = {"the best 10": 10, "the best 20": 20, "the best 50": 50, "all items": None}
relative = {name: selection.relative_informative(of_topk, betas, best) for name, best in readings.items()}
turns = {name: [selection.turning_point(row) for row in table] for name, table in relative.items()}
wrong = [of_topk.by_pool_size(LossConfig(beta=b))[0] for b in betas]
by_beta = pd.DataFrame({"β": betas, **{f"turns, {name}": places for name, places in turns.items()}})
by_beta[f"informative at K = {k}, %"] = relative["all items"][:, k - 1]
by_beta[f"erroneous at K = {k}, %"] = [100 * (w[k - 1] / w[0] - 1) for w in wrong]
for name, places in turns.items():
    record(f"betas_with_a_turn_{name.replace(' ', '_')}", sum(place is not None for place in places))

# %% tags=["hide-input"]
depths, fig = np.unique(np.geomspace(1, dataset.n_items, 40).astype(int)), go.Figure()
for number, (name, table) in enumerate(relative.items()):
    curve = table[betas.index(0.5), depths - 1]
    fig.add_scatter(x=depths, y=curve, name=f"on {name}", mode="lines", **figures.style(number))
fig.add_hline(y=0, line_dash="dot", line_color=figures.GREY)
fig.add_vline(x=k, line_dash="dot", line_color=figures.GREY)
fig.update_xaxes(type="log", dtick=1, title="pool size K")
fig.update_yaxes(title="informative push against hard, %")
figures.show(
    fig,
    caption="Informative push of a pool of K against that of the hardest item, by what counts as a right push, at "
    f"β = 0.5. Above zero the pool has more. The vertical line is K = {k}; the table has other β.",
    alt="Four curves over the pool size. Counted on the best few ranks only, the informative push is above that of "
    "hard for small pools and falls quickly beyond; counted on all items it stays above.",
    data=by_beta,
)

# %% tags=["hide-input"]
def turned_at(reading):
    known = [place for place in turns[reading] if place]
    where = f"K = {min(known)}" + (f" to {max(known)}" if max(known) > min(known) else "") if known else "no K"
    return f"counted on {reading}, at {where}"


at_k = relative["all items"][:, k - 1]
Markdown(
    f"The trade turns, {listed(map(turned_at, readings))}, over {len(betas)} values of β from {betas[0]} to "
    f"{betas[-1]}. A limit on what counts must turn it just past the limit, because the rest of the push is spent "
    "elsewhere. What counts as right decides far more than the β that weighs these pushes: over all its values, the "
    f"informative push at K = {k} changes by "
    f"{signed(at_k.min(), 1)} to {signed(at_k.max(), 1)} %. What *training* at another β does is a "
    "question for [sensitivity](sensitivity.html)."
)

# %% [markdown]
# ## Four dials
#
# The pool size is not the only way to step back from the hardest item. `topk` and `dns`, the best of $M$ random
# candidates, run from `hard` or near it towards `uniform`; `topk_softmax` starts near `hard`, too, and is flattened by
# its temperature τ into a pool of 100; `rank_window` starts at the pool of the best and moves it down by $m$. Which of
# them gets the most right pushes for a given amount of wrong ones?

# %% tags=["hide-input"]
dials = {
    "topk, K": ("k", [1, 2, 5, 10, 20, 50, 100, 200, 500], {"name": "topk"}),
    "topk_softmax, τ": ("temperature", [0.05, 0.2, 0.5, 1.0, 2.0, 5.0], {"name": "topk_softmax", "k": 100}),
    "rank_window, m": ("skip", [0, 5, 10, 20, 50, 100, 200], {"name": "rank_window", "k": k}),
    "dns, M": ("candidates", [500, 200, 100, 50, 20, 5, 1], {"name": "dns", "k": 1}),
}
turned = selection.dials(of_topk, dials, [0.1, 0.5, 2.0, 5.0])
at_half = turned[turned["β"] == 0.5]
at_20 = at_half[(at_half["dial"] == "topk, K") & (at_half["value"] == 20)]
record("dials_noise_of_topk_at_k_20", at_20["noise"].iloc[0])

# %% tags=["hide-input"]
fig, groups = go.Figure(), {}
for (b, name), part in turned.groupby(["β", "dial"], sort=False):
    groups.setdefault(str(b), []).append(len(fig.data))
    hover = name.split(", ")[1] + " = %{customdata}: erroneous %{x:+.0f} %, informative %{y:+.0f} %<extra></extra>"
    points = {"x": part["erroneous"], "y": part["informative"], "customdata": part["value"], "hovertemplate": hover}
    fig.add_scatter(**points, mode="lines+markers", name=name, **figures.style(list(dials).index(name)))
groups = {b: groups[b] for b in sorted(groups, key=float)}
figures.slider(fig, groups, "0.5", "β = ")
fig.update_xaxes(title="erroneous push against hard, %")
fig.update_yaxes(title="informative push against hard, %")
figures.show(
    fig,
    caption="Every setting of four selectors against `hard`, which is the origin; up and to the left is better. Choose "
    "β, hover for the setting.",
    alt="Four curves over the erroneous and the informative push against hard; they lie close together and run from "
    "the origin, or near it, to fewer erroneous pushes.",
    data=at_half[["dial", "value", "erroneous", "informative", "noise"]],
)

# %% tags=["hide-input"]
apart = selection.distances(at_half)
each = ", ".join(f"`{name.split(', ')[0]}` {points:.1f}" for name, points in apart.items())
Markdown(
    "At β = 0.5, for the same amount of wrong pushes, the other three are at most "
    f"{max(apart.values()):.1f} percentage points of informative push away from `topk` ({each})."
)

# %% [markdown]
# The price of stepping back is *noise*, which the data of the figure give for each setting. `hard` has none, and a pool
# of $K$ has $K - 1$ (exercise 2). The paper's abstract calls this controlled randomness smoothing. For the gradient of
# one draw it is the opposite; what it may smooth is which items are rejected over time, and that is counted next.
#
# ## What training really drew
#
# Probabilities describe one moment. Over an epoch of training, how many different items are rejected, and how often
# does a position reject the same item as in the epoch before? *Effective negatives* is the exponential of the entropy
# of all rejected items: how many items it would be if all were rejected equally often.

# %% tags=["hide-input"]
repeated = "same as in the epoch before"
columns = {
    "suppression": "push per position", "effective_negatives": "effective negatives", "repeat_rate": repeated,
}  # fmt: skip
last = {name: run.history[list(columns)].iloc[-1] for name, run in aligned.items() if name != "none"}
drawn = pd.DataFrame(last).T.rename(columns=columns)
figures.table(drawn.rename_axis("aligned with"), f"Last of three epochs, {dataset.n_items:,} items")
for name in drawn.index:
    record(f"repeat_rate_{name}", drawn.loc[name, repeated])

# %% [markdown]
# ## What it did to the false negatives
#
# Of the 20 candidates that the *reference* ranked best, how far did the scores of false negatives move in training, and
# how far the others'? (Against the mean move of the catalogue, as scores are known up to a constant.) And how far did
# their *vectors* turn away from the reference, the paper's “embedding drift”? `none` is continued cross-entropy: the
# same epochs without a preference loss.

# %% tags=["hide-input"]
models = {name: run.model for name, run in aligned.items()}
drift = {name: selection.drift(profiles[name], models[name], reference.model, of_topk) for name in profiles}
drift = pd.DataFrame(drift).T.rename_axis("aligned with")
for name, moved in drift["scores: false negatives"].items():
    record(f"drift_of_false_negatives_{name}", moved)
figures.table(
    drift,
    "Drift from the reference, one training seed: of scores, and of item vectors (1 − cosine). The difference is "
    "averaged within users first",
)

# %% tags=["hide-input"]
low, high = drift["difference"] - drift["± 95 %"], drift["difference"] + drift["± 95 %"]
hard, half = drift.loc["hard"], drift.loc[["hard", "topk"], "± 95 %"].max()
Markdown(
    f"False negatives end above their neighbours in {(low > 0).sum()} of {len(drift)} rows and below them in "
    f"{(high < 0).sum()}. `hard` and `topk` differ by "
    f"{signed(hard['difference'] - drift.loc['topk', 'difference'], 3)}, where each is known to about ±{half:.3f}. "
    "What was pushed wrongly need not show in where scores end, nor in vectors: under `hard` those of false negatives "
    f"turned by {hard['vectors: false negatives']:.4f}, the others by {hard['the others']:.4f}."
)

# %% [markdown]
# On real purchases that is measured under [false negatives in real data](falsenegatives).
#
# *Change this and rerun:* with `k = 100`, look at the row of `topk` in *What training really drew*: how many different
# items are rejected, and how often a position meets the same one twice.
#
# ## Exercises
#
# Guess first, then open the cell below the question: it computes the answer.
#
# **1. One dial, two selectors.** `topk_softmax` draws from the best $K$ in proportion to $e^{s/\tau}$. Which selector
# does it become as $\tau \to 0$, and which as $\tau \to \infty$? Which column of the pushes shows it most
# clearly?

# %% tags=["hide-cell"]
taus = (0.01, 0.5, 100.0)
softmax = {"name": "topk_softmax", "k": k}
dial = [NegativesConfig(**softmax, temperature=tau) for tau in taus]
ends = [NegativesConfig(name="hard"), *dial, NegativesConfig(name="topk", k=k)]
between = rank_profiles.suppression_table(of_topk, ends, [loss])
between.index = ["hard", *(f"topk_softmax, τ = {tau:g}" for tau in taus), "topk"]
figures.table(
    between[["erroneous", "informative", "noise"]].rename_axis("selector"),
    f"Between two selectors, K = {k}, β = {beta}",
)

# %% [markdown]
# :::{dropdown} Why
# A small $\tau$ stretches the differences of the scores until the best item has all the probability; a large one
# flattens them until the $K$ best are equal. Both ends show in every column, the noise of one draw most clearly.
# :::
#
# **2. Can β calm a draw?** A large β pushes hardest at the top of the pool and less below. Is a draw from the pool
# then less noisy, because most of what could be drawn does not matter?

# %% tags=["hide-cell"]
strong = [0.05, 0.5, 5.0]
drawn_from = [NegativesConfig(name="topk", k=n) for n in (2, k, 5 * k)]
drawn_from.append(NegativesConfig(name="topk_softmax", k=k, temperature=0.5))
draw = rank_profiles.suppression_table(of_topk, drawn_from, [LossConfig(beta=b) for b in strong])
noise = draw.pivot(index="setting", columns="loss", values="noise")
noise.columns = [f"β = {b}" for b in strong]
noise.index = pd.Index([f"{chosen.name}, K = {chosen.k}" for chosen in drawn_from], name="selector")
figures.table(noise, "Variance of one draw's push over its squared mean")

# %% [markdown]
# :::{dropdown} Why
# Each member of the pool is a coordinate of the gradient of its own, drawn with probability $1/K$. The mean square of
# the push is $\sum_r w_r^2 / K$ and the square of the mean $\sum_r (w_r / K)^2$, so their ratio is $K$ and the noise
# $K - 1$, whatever the weights $w_r$ are. With equal weights, probabilities that are not uniform have less: $1 /
# \sum_r q_r^2 - 1$. Averaging $n$ draws (`negatives.n`) divides the noise by $n$.
# :::
#
# **3. The user's own items.** These selectors spare all training items of the user (`negatives.exclude = train`).
# `past` spares only those taken so far, `none` spares nothing. How much of the pool are own items then, does the
# erroneous share rise or fall, and is that good news?

# %% tags=["hide-cell"]
own, rows = of_topk.candidates["policy"].is_excluded.numpy(), []
for rule in ("train", "past", "none"):
    case = world.profile(models["topk"], positions, exclude=rule)
    wrong, right = (x.mean() for x in case.expected(NegativesConfig(k=k), loss))
    mine = np.take_along_axis(own, case.items[:, :k], 1).mean()
    rows.append((rule, f"{mine:.1%}", wrong, wrong / (wrong + right)))
columns = ["exclude", "own items in the pool", "erroneous", "erroneous share"]
figures.table(pd.DataFrame(rows, columns=columns), f"`topk`, K = {k}, β = {beta}")

# %% [markdown]
# :::{dropdown} Why
# The truth of this page leaves the user's own training items out, so a push on one of them counts as informative, and
# it has the place of something that might have been wanted. Under `past`, those in the pool are what the user takes
# *later on*: the surest false negatives there are, and here they pass for right pushes. Under `none` come those that
# the user has. What is learnt from these is not to repeat, which dropping the history from the list does for nothing;
# [false negatives in real data](falsenegatives) asks how much of a gain on real data is of that kind.
# :::
#
# ## Takeaways
#
# - Most selectors draw a rank with a known probability; `hard` and `uniform` are the two ends of `topk`.
# - How much a pool saves, and what it costs, depends on its size and on what counts as a right push; near the start of
#   alignment hardly on β.
# - The anchor pushes false negatives too. A selector changes the part that preference adds, not the whole.
#
# **Next:** try it by hand in [the lab](lab), or [add a strategy of your own](../extend).
