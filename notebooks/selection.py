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
# **You will learn** how a dozen selectors choose the rejected item, how often each of them hits a false negative, and what a
# random member of the pool gives up for that, which depends on what one counts as a right push.
#
# *Reading: 14 minutes. Running: about a minute. Before this: [gradients under false negatives](gradients).*

# %% tags=["parameters"]
profile = "smoke"
seed = 0
k = 20  # pool size K
beta = 0.5
positions = 2000  # next-item predictions on which everything is measured

# %%
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from companion.site import figures
from companion.site.pages import record, record_defaults
from IPython.display import Markdown
from plotly.subplots import make_subplots

from rodpo_lite.config import AlignmentConfig, ReferenceConfig
from rodpo_lite.data.synthetic import Oracle, open_world
from rodpo_lite.evaluation.statistics import signed, user_bootstrap
from rodpo_lite.losses.preference import LossConfig
from rodpo_lite.mechanism import agreement, rank_profiles
from rodpo_lite.mechanism.drift import embedding_drift
from rodpo_lite.mechanism.relevance import oracle_relevance
from rodpo_lite.sampling.selectors import SELECTORS, NegativesConfig
from rodpo_lite.settings import build
from rodpo_lite.training import runs

figures.setup()

# %% [markdown]
# ## The selectors
#
# A selector sees the scores of a position, the items that may not be rejected (always the positive, and by
# `negatives.exclude` the user's own), popularity, and a random generator. What it does can mostly be stated as a
# *law*: the probability of each item in one draw. Tests compare drawn frequencies with these laws.

# %% tags=["hide-input"]
whose = {"policy": "policy", "reference": "frozen reference", None: "none"}
figures.table(
    pd.DataFrame(
        {
            "selector": name,
            "what it draws": selector.summary,
            "scores": whose[selector.scorer],
            "law": "stated" if selector.probabilities else "–",
            "keys": ", ".join(selector.uses) or "–",
        }
        for name, selector in SELECTORS.items()
    ),
    "Every registered selector",
)

# %% [markdown]
# `popularity` comes from word vectors {cite}`mikolov2013words`; `dns` {cite}`zhang2013dns` was analysed by {cite:t}`shi2023dnsmn`; `srns`
# {cite}`ding2020srns` and `ahns` {cite}`lai2024ahns` look for negatives that are hard and yet not false.

# %% [markdown]
# ## A world with known answers
#
# As in [gradients](gradients): a reference on the [synthetic world](data), a policy aligned from it for a few epochs, and for
# every candidate the answer to *would this user have wanted it?* All scores are taken with dropout off.

# %%
dataset, folder = open_world("", seed)
holder = tempfile.TemporaryDirectory()
space = Path(holder.name)
small = {
    "seed": seed,
    "encoder": {"width": 32, "dropout": 0.2},
    "training": {"epochs": 15, "precision": "fp32"},
}
runs.train(dataset, build(ReferenceConfig, small), space / "reference")
reference = runs.load(space / "reference", dataset)
relevance = oracle_relevance(dataset, Oracle.of(dataset, folder))


def aligned(name):
    config = {
        "seed": seed,
        "negatives": {"name": name, "k": k},
        "loss": {"beta": beta},
        "training": {"epochs": 3, "learning_rate": 5e-4, "precision": "fp32"},
    }
    runs.align(dataset, space / "reference", build(AlignmentConfig, config), space / name)
    return runs.load(space / name, dataset)


def profile_of(model):
    length = reference.encoder.max_length
    return rank_profiles.rank_profile(model, reference.model, dataset, relevance, length, positions)


found = {name: aligned(name) for name in ("none", "uniform", "topk", "hard")}
policies = {name: run.model for name, run in found.items()}
histories = {name: run.history for name, run in found.items() if name != "none"}
profiles = {name: profile_of(model) for name, model in policies.items()}
of_topk = profiles["topk"]

# %% [markdown]
# ## Drag K
#
# One position of one user, the best 60 candidates. Above, their scores, with those that the user would have wanted marked;
# the shaded band is the pool. Below, the expected push on each: a draw takes every member of the pool with the same
# probability $1/K$, and pushes it by $w = \beta\,\sigma(-\beta h)$.

# %% tags=["hide-input"]
depth = 60
wanted = of_topk.false_negative[:, :depth]
example = int(np.argmin(np.abs(wanted.sum(1) - np.median(wanted.sum(1)))))
scores = of_topk.pairs.policy_negative[example, :depth].numpy()
push = of_topk.suppression(LossConfig(beta=beta))[example, :depth]
ranks, marked = np.arange(1, depth + 1), wanted[example]
sizes = sorted({1, 2, 5, 10, 20, 40, depth, min(k, depth)})
fig = make_subplots(
    2, 1, shared_xaxes=True, row_heights=[0.55, 0.45], vertical_spacing=0.08
)
groups, kinds = {}, (("not wanted", ~marked), ("false negative", marked))
for size in sizes:
    first = len(fig.data)
    low, high = scores.min(), scores.max()
    fig.add_scatter(
        x=[0.5, 0.5, size + 0.5, size + 0.5], y=[low, high, high, low], fill="toself", mode="lines",
        line={"width": 0}, fillcolor="rgba(128, 136, 144, .25)", hoverinfo="skip", name="pool", row=1, col=1,
    )
    for number, (name, chosen) in enumerate(kinds):
        inside = chosen & (ranks <= size)
        fig.add_bar(
            x=ranks[inside], y=push[inside] / size, width=0.8, showlegend=False, name=name, row=2, col=1,
            marker={"color": figures.COLOURS[number], "pattern": {"shape": "", "fillmode": "overlay"}},
        )
    groups[str(size)] = list(range(first, len(fig.data)))
always = [len(fig.data), len(fig.data) + 1]
for number, (name, chosen) in enumerate(kinds):
    fig.add_scatter(
        x=ranks[chosen], y=scores[chosen], mode="markers", name=name, row=1, col=1, **figures.style(number)
    )
figures.slider(fig, {size: [*shown, *always] for size, shown in groups.items()}, str(min(k, depth)), "K = ")
fig.update_layout(height=520, barmode="overlay")
fig.update_yaxes(title="score", row=1)
fig.update_yaxes(title="expected push", row=2, type="log", range=[-3.3, np.log10(beta)], tickvals=[0.001, 0.01, 0.1, 1])
fig.update_xaxes(title="rank under the policy", range=[0, depth + 1], row=2)
pools = pd.DataFrame(
    {
        "K": sizes,
        "false negatives in this pool": [marked[:n].mean() for n in sizes],
        "in all pools": [of_topk.false_negative[:, :n].mean() for n in sizes],
        "erroneous push here": [(push * marked)[:n].sum() / n for n in sizes],
        "informative push here": [(push * ~marked)[:n].sum() / n for n in sizes],
    }
)
figures.show(
    fig,
    caption="The pool of one position. Drag K: at 1 it is `hard`, which spends the whole push on one item; at the right end it is on the way to `uniform`.",
    alt="Scores fall with rank, false negatives are marked among them, and a shaded band covers the first K ranks; below, bars show the push that each member of the pool gets.",
    data=pools,
)

# %% [markdown]
# ## What each selector pushes
#
# Expected suppression per position, split by whether it lands on a false negative. Where a law is stated this is an exact
# sum; `srns` and `ahns` are drawn. The last row is what *every* strategy shares: the cross-entropy anchor pushes each
# item by $\lambda_\mathrm{ce}\,\pi(j \mid S)$, here at $\lambda_\mathrm{ce} = 1$.

# %% tags=["hide-input"]
loss = LossConfig(beta=beta)
settings = {"k": k, "candidates": 100, "skip": 5}
per_user, rows = {}, []
for name, selector in SELECTORS.items():
    negatives = NegativesConfig(name=name, **settings)
    parts = (
        of_topk.expected(negatives, loss)
        if selector.probabilities
        else agreement.by_drawing(of_topk, negatives, loss, draws=20)
    )
    push = pd.DataFrame(parts, index=["erroneous", "informative"]).T
    per_user[name] = push.groupby(of_topk.users).mean()
    noise = (
        of_topk.noise(negatives, loss) if selector.probabilities else np.nan
    )
    rows.append(
        {
            "selector": name,
            **push.mean(),
            "erroneous share": push["erroneous"].sum() / push.sum().sum(),
            "noise of one draw": noise,
        }
    )
anchor = of_topk.by_kind(of_topk.anchor)
rows.append(
    {
        "selector": "anchor",
        "erroneous": anchor[0].mean(),
        "informative": anchor[1].mean(),
        "erroneous share": anchor[0].sum() / (anchor[0] + anchor[1]).sum(),
    }
)
pushes = pd.DataFrame(rows).set_index("selector")
figures.table(pushes, f"Expected suppression per position, K = {k}, β = {beta}, over about {positions:,} positions (another choice of them gives slightly other numbers)")
change = {
    part: user_bootstrap(
        *(per_user[name][part].to_numpy() for name in ("hard", "topk"))
    )
    for part in ("erroneous", "informative")
}
record("erroneous_topk_against_hard_percent", change["erroneous"].estimate)
record_defaults(NegativesConfig)

# %% tags=["hide-input"]
ordered = pushes.drop(index="anchor").sort_values("erroneous share", ascending=False)
fig = go.Figure(go.Bar(y=ordered.index, x=ordered["erroneous share"], orientation="h"))
fig.add_vline(
    x=pushes.loc["anchor", "erroneous share"], line_dash="dot", line_color=figures.GREY
)
fig.update_layout(height=480)
fig.update_xaxes(title="erroneous share of the push", tickformat=".0%")
fig.update_yaxes(autorange="reversed")
figures.show(
    fig,
    caption="Which part of each selector's push lands on false negatives. Dotted: the same of the anchor, which no selector changes.",
    alt=f"Horizontal bars from {ordered['erroneous share'].iloc[0]:.0%} for {ordered.index[0]} to {ordered['erroneous share'].iloc[-1]:.0%} for {ordered.index[-1]}.",
    data=ordered.reset_index(),
)

# %% tags=["hide-input"]
usual = NegativesConfig()
Markdown(
    f"Averaged first within users, drawing from the top {k} changes erroneous suppression by **{change['erroneous'].text(1)}** "
    f"against `hard` and informative suppression by **{change['informative'].text(1)}** (95 % intervals over users; one world, one "
    "training seed, one policy). The table averages over positions, so users with long histories weigh more in "
    f"it: there it is {signed(100 * (pushes.loc['topk', 'erroneous'] / pushes.loc['hard', 'erroneous'] - 1), 1)} % and "
    f"{signed(100 * (pushes.loc['topk', 'informative'] / pushes.loc['hard', 'informative'] - 1), 1)} %. The anchor's push on false negatives is {pushes.loc['anchor', 'erroneous']:.3f} per position, "
    f"that of `topk` {pushes.loc['topk', 'erroneous']:.3f}. A low bar is no merit by itself: `uniform` has one because it hardly meets what is wanted, and `ahns` because it "
    f"aims at middling scores, between {usual.ahns_beta / (1 + usual.ahns_alpha):.2f} and {usual.ahns_beta / usual.ahns_alpha:.2f} after the sigmoid at its defaults. *Where the trade turns* asks for pushes near the top."
)

# %% [markdown]
# ## Where the trade turns
#
# Leaving the hardest item for a pool saves mistakes and gives up hardness. As long as the pool's *informative* push is
# above that of `hard`, fewer pushes are wrong **and** more are right. Where it falls below, every mistake saved costs a
# right push. What counts as a right push is a choice: any push on an item that is not wanted, or only one on the best 10, 20
# or 50 items, which compete with the target for a place in the list. With such a limit it must turn once the pool is larger, because
# the rest of the push is spent elsewhere; the question is what is left at the $K$ that one would take.

# %% tags=["hide-input"]
betas = [0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0]
depths = np.unique(np.geomspace(1, dataset.n_items, 40).astype(int))
readings = {"the best 10": 10, "the best 20": 20, "the best 50": 50, "all items": None}
relative, turns, fig = {}, {}, go.Figure()
for number, (reading, best) in enumerate(readings.items()):
    curves = [of_topk.by_pool_size(LossConfig(beta=b), best)[1] for b in betas]
    relative[reading] = np.array([100 * (curve / curve[0] - 1) for curve in curves])
    turns[reading] = [
        int(np.flatnonzero(row >= 0).max()) + 2 if row[-1] < 0 else None
        for row in relative[reading]
    ]
    fig.add_scatter(
        x=depths, y=relative[reading][betas.index(0.5), depths - 1], name=f"on {reading}", mode="lines", **figures.style(number),
    )
fig.add_hline(y=0, line_dash="dot", line_color=figures.GREY)
fig.add_vline(x=k, line_dash="dot", line_color=figures.GREY)
fig.update_xaxes(type="log", dtick=1, title="pool size K")
fig.update_yaxes(title="informative push against hard, %")
wrong = [of_topk.by_pool_size(LossConfig(beta=b))[0] for b in betas]
figures.show(
    fig,
    caption=f"Informative push of a pool of K against that of the hardest item, by what counts as a right push, at β = 0.5. Above zero the pool has more. The vertical line is K = {k}; the table has other β.",
    alt="Four curves over the pool size. Counted on the best few ranks only, the informative push is above that of hard for small pools and falls quickly beyond; counted on all items it stays above.",
    data=pd.DataFrame(
        {
            "β": betas,
            **{f"turns, {reading}": turns[reading] for reading in readings},
            f"informative at K = {k}, %": relative["all items"][:, k - 1],
            f"erroneous at K = {k}, %": [100 * (w[k - 1] / w[0] - 1) for w in wrong],
        }
    ),
)
for reading, found_turns in turns.items():
    record(f"betas_with_a_turn_{reading.replace(' ', '_')}", sum(turn is not None for turn in found_turns))


# %% tags=["hide-input"]
def sentence(reading):
    known = [turn for turn in turns[reading] if turn]
    if not known:
        return f"- Counted on {reading}, it turns nowhere: at every β from {betas[0]} to {betas[-1]} even the whole catalogue has more right pushes than `hard`."
    where = (
        f"K = {min(known)}"
        if min(known) == max(known)
        else f"K = {min(known)} to {max(known)}"
    )
    return f"- Counted on {reading}, it turns at {where}, for {len(known)} of {len(betas)} values of β."


at_k = relative["all items"][:, k - 1]
Markdown(
    "In this world:\n\n" + "\n".join(map(sentence, readings))
    + f"\n\nWhat counts as right decides far more than the β that weighs these pushes: over all its values, the informative push at K = {k} changes by "
    f"{signed(at_k.min(), 1)} to {signed(at_k.max(), 1)} %. All are pushes on one policy, which was aligned at one β and whose margins are small; what *training* at another β does "
    "is a question for the page on sensitivity."
)

# %% [markdown]
# ## Four dials
#
# The pool size is not the only way to step back from the hardest item. `topk` and `dns`, the best of $M$ random candidates, run
# from `hard` or near it towards `uniform`; `topk_softmax` starts near `hard`, too, and is flattened by its temperature τ into a
# pool of 100; `rank_window` starts at the pool of the best and moves it down by $m$. Which of them gets the most right pushes for a
# given amount of wrong ones?

# %% tags=["hide-input"]
dials = {
    "topk, K": ("k", [1, 2, 5, 10, 20, 50, 100, 200, 500], {"name": "topk"}),
    "topk_softmax, τ": ("temperature", [0.05, 0.2, 0.5, 1.0, 2.0, 5.0], {"name": "topk_softmax", "k": 100}),
    "rank_window, m": ("skip", [0, 5, 10, 20, 50, 100, 200], {"name": "rank_window", "k": k}),
    "dns, M": ("candidates", [500, 200, 100, 50, 20, 5, 1], {"name": "dns", "k": 1}),
}
turned = pd.DataFrame(
    {"dial": name, "value": value, "config": NegativesConfig(**rest, **{key: value})}
    for name, (key, values, rest) in dials.items()
    for value in values
)
strengths = [0.1, 0.5, 2.0, 5.0]
swept = rank_profiles.suppression_table(of_topk, list(turned["config"]), [LossConfig(beta=b) for b in strengths])
swept = swept.join(turned[["dial", "value"]], on="setting")
swept["β"] = np.array(strengths)[swept["loss"]]
at_hard = swept[(swept["dial"] == "topk, K") & (swept["value"] == 1)].set_index("β")
for part in ("erroneous", "informative"):
    swept[part] = 100 * (swept[part] / at_hard.loc[swept["β"], part].to_numpy() - 1)
fig, groups = go.Figure(), {str(b): [] for b in strengths}
for (b, name), part in swept.groupby(["β", "dial"], sort=False):
    groups[str(b)].append(len(fig.data))
    fig.add_scatter(
        x=part["erroneous"], y=part["informative"], mode="lines+markers", name=name, customdata=part["value"],
        hovertemplate=name.split(", ")[1] + " = %{customdata}: erroneous %{x:+.0f} %, informative %{y:+.0f} %<extra></extra>",
        **figures.style(list(dials).index(name)),
    )
figures.slider(fig, groups, "0.5", "β = ")
fig.update_xaxes(title="erroneous push against hard, %")
fig.update_yaxes(title="informative push against hard, %")
figures.show(
    fig,
    caption="Every setting of four selectors against `hard`, which is the origin; up and to the left is better. Drag β, hover for the setting.",
    alt="Four curves over the erroneous and the informative push against hard; they lie close together and run from the origin, or near it, to fewer erroneous pushes.",
    data=swept[swept["β"] == 0.5][["dial", "value", "erroneous", "informative", "noise"]],
)
record("dials_noise_of_topk_at_k_20", swept[(swept["dial"] == "topk, K") & (swept["value"] == 20) & (swept["β"] == 0.5)]["noise"].iloc[0])

# %% tags=["hide-input"]
curves = {
    name: part.sort_values("erroneous")
    for name, part in swept[swept["β"] == 0.5].groupby("dial")
}
pool = curves.pop("topk, K")
apart = {}
for name, part in curves.items():
    inside = part[part["erroneous"].between(pool["erroneous"].min(), pool["erroneous"].max())]
    at_pool = np.interp(inside["erroneous"], pool["erroneous"], pool["informative"])
    apart[name] = float(np.abs(inside["informative"] - at_pool).max())
Markdown(
    f"At β = 0.5, for the same amount of wrong pushes, the other three are at most {max(apart.values()):.1f} percentage points of "
    f"informative push away from `topk` ({', '.join(f'`{n.split(chr(44))[0]}` {v:.1f}' for n, v in apart.items())})."
)

# %% [markdown]
# The price of stepping back is *noise*: the table under the figure gives the variance of one draw's push over its squared
# mean. `hard` has none, and a pool of $K$ has $K - 1$ (exercise 2). The paper's abstract calls this controlled randomness smoothing. For the gradient of one draw it is the opposite;
# what it may smooth is which items are rejected over time, and that is counted next.
#
# ## What training really drew
#
# Laws describe one moment. Over an epoch of training, how many different items are rejected, and how often does a position
# reject the same item as in the epoch before? *Effective negatives* is the exponential of the entropy of all rejected
# items: how many items it would be if all were rejected equally often.

# %% tags=["hide-input"]
columns = {"suppression": "push per position", "effective_negatives": "effective negatives", "repeat_rate": "same as in the epoch before"}
drawn = pd.DataFrame(
    {name: history[list(columns)].iloc[-1] for name, history in histories.items()}
).T.rename(columns=columns)
figures.table(drawn.rename_axis("aligned with"), f"Last of three epochs, {dataset.n_items:,} items")
for name in drawn.index:
    record(f"repeat_rate_{name}", drawn.loc[name, "same as in the epoch before"])

# %% [markdown]
# ## What it did to the false negatives
#
# Expected pushes are one thing, what training did with them another. For each aligned policy: how far did the score of a
# false negative move, among the 20 candidates that the *reference* ranked best, and how far did the others? Scores are
# known up to a constant, so each is measured against the mean move of the catalogue. The last two columns are about the
# items' *vectors*: how far those of false negatives and those of the others in the pool of 20 turned away from the reference, the paper's “embedding drift”. `none` is
# continued cross-entropy: the same epochs without a preference loss.

# %% tags=["hide-input"]
rows = []
for name, found in profiles.items():
    on_wanted, on_rest = found.score_drift(depth=20)
    both = ~np.isnan(on_wanted) & ~np.isnan(on_rest)
    gap = pd.Series((on_wanted - on_rest)[both]).groupby(found.users[both]).mean()
    half = 1.96 * gap.std() / np.sqrt(len(gap))
    vectors = embedding_drift(policies[name], reference.model)
    on_vectors = of_topk.in_pool(vectors, depth=20)
    rows.append(
        {
            "aligned with": name,
            "scores: false negatives": np.nanmean(on_wanted),
            "the rest": np.nanmean(on_rest),
            "difference": gap.mean(),
            "± 95 %": half,
            "vectors: false negatives": on_vectors[0],
            "the others": on_vectors[1],
        }
    )
    record(f"drift_of_false_negatives_{name}", np.nanmean(on_wanted))
figures.table(
    pd.DataFrame(rows),
    "Drift from the reference, one training seed: of scores, and of item vectors (1 − cosine). The difference is averaged within users "
    "first, over positions that have both kinds, so that it is not that of the two columns",
)

# %% tags=["hide-input"]
drift = pd.DataFrame(rows).set_index("aligned with")
low, high = drift["difference"] - drift["± 95 %"], drift["difference"] + drift["± 95 %"]
apart = drift.loc["hard", "difference"] - drift.loc["topk", "difference"]
Markdown(
    f"False negatives end above their neighbours in {(low > 0).sum()} of {len(drift)} rows and below them in {(high < 0).sum()}. "
    f"`hard` and `topk` differ by {signed(apart, 3)}, where each is known to about "
    f"±{drift.loc[['hard', 'topk'], '± 95 %'].max():.3f}. What was pushed wrongly need not show in where scores end, nor in vectors: under `hard` those of false negatives "
    f"turned by {drift.loc['hard', 'vectors: false negatives']:.4f}, the others by {drift.loc['hard', 'the others']:.4f}."
)

# %% [markdown]
# On real purchases that is measured under [false negatives in real data](falsenegatives).
#
# *Change this and rerun:* with `k = 100`, look at the row of `topk` in *What training really drew*: how many different items
# are rejected, and how often a position meets the same one twice.
#
# ## Exercises
#
# Guess first, then open the cell below the question: it computes the answer.
#
# **1. One dial, two selectors.** `topk_softmax` draws from the best $K$ in proportion to $e^{s/\tau}$. Which selector does it
# become as $\tau \to 0$, and which as $\tau \to \infty$? Which column of the table of pushes shows it most clearly?

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
# A small $\tau$ stretches the differences of the scores until the best item has all the probability; a large one flattens them
# until the $K$ best are equal. Both ends show in every column, the noise of one draw most clearly.
# :::
#
# **2. Can β calm a draw?** A large β pushes hardest at the top of the pool and less below. Is a draw from the pool then less
# noisy, because most of what could be drawn does not matter?

# %% tags=["hide-cell"]
strong = [0.05, 0.5, 5.0]
laws = [NegativesConfig(name="topk", k=n) for n in (2, k, 5 * k)]
laws.append(NegativesConfig(name="topk_softmax", k=k, temperature=0.5))
draw = rank_profiles.suppression_table(of_topk, laws, [LossConfig(beta=b) for b in strong])
noise = draw.pivot(index="setting", columns="loss", values="noise")
noise.columns = [f"β = {b}" for b in strong]
noise.index = pd.Index([f"{law.name}, K = {law.k}" for law in laws], name="selector")
figures.table(noise, "Variance of one draw's push over its squared mean")

# %% [markdown]
# :::{dropdown} Why
# Each member of the pool is a coordinate of the gradient of its own, drawn with probability $1/K$. The mean square of the push
# is $\sum_r w_r^2 / K$ and the square of the mean $\sum_r (w_r / K)^2$, so their ratio is $K$ and the noise $K - 1$, whatever the
# weights $w_r$ are. With equal weights, a law that is not uniform has less: $1 / \sum_r q_r^2 - 1$. Averaging $n$ draws
# (`negatives.n`) divides the noise by $n$.
# :::
#
# **3. The user's own items.** These selectors spare all training items of the user (`negatives.exclude = train`). `past` spares
# only those taken so far, `none` spares nothing. How much of the pool are own items then, does the erroneous share rise or
# fall, and is that good news?

# %% tags=["hide-cell"]
own = of_topk.candidates["policy"].is_excluded.numpy()
models = (policies["topk"], reference.model, dataset, relevance)
length, rows = reference.encoder.max_length, []
for rule in ("train", "past", "none"):
    case = rank_profiles.rank_profile(*models, length, positions, exclude=rule)
    wrong, right = (x.mean() for x in case.expected(NegativesConfig(k=k), loss))
    mine = np.take_along_axis(own, case.items[:, :k], 1).mean()
    rows.append((rule, f"{mine:.1%}", wrong, wrong / (wrong + right)))
columns = ["exclude", "own items in the pool", "erroneous", "erroneous share"]
figures.table(pd.DataFrame(rows, columns=columns), f"`topk`, K = {k}, β = {beta}")

# %% [markdown]
# :::{dropdown} Why
# The truth of this page leaves the user's own training items out, so a push on one of them counts as informative, and it has
# the place of something that might have been wanted. Under `past`, those in the pool are what the user takes *later on*: the
# surest false negatives there are, and here they pass for right pushes. Under `none` come those that the user has. What is
# learnt from these is not to repeat, which dropping the history from the list does for nothing;
# [false negatives in real data](falsenegatives) asks how much of a gain on real data is of that kind.
# :::
#
# ## Takeaways
#
# - Most selectors are laws over ranks; `hard` and `uniform` are the two ends of `topk`.
# - How much a pool saves, and what it costs, depends on its size and on what counts as a right push; near the start of alignment hardly on β.
# - The anchor pushes false negatives too. A selector changes the part that preference adds, not the whole.
#
# **Next:** [training](training), or [add a strategy of your own](../extend).
