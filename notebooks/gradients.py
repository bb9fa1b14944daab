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
# # Gradients under false negatives
#
# **The question.** How much of what DPO pushes down is something that the user would have liked?
#
# **The answer, in a world whose truth is known.** The more, the harder the rejected item: what a good model ranks first
# is what people want. A random one of the best K is pushed wrongly less often than the first, and nearly as hard.
#
# *Reading: 11 minutes. Running: under a minute. Before this: [the DPO objective](objective).*

# %% tags=["parameters", "hide-input"]
profile = "smoke"
seed = 0
k = 20  # pool size K of the top-K selector
beta = 0.5

# %% tags=["hide-input"]
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from companion.demonstrations import selection
from companion.findings.sentences import render
from companion.site import figures
from companion.site.pages import record
from IPython.display import Markdown

from rodpo_lite.evaluation.statistics import signed
from rodpo_lite.losses.preference import LossConfig
from rodpo_lite.mechanism import agreement
from rodpo_lite.sampling.selectors import NegativesConfig

figures.setup()
holder = tempfile.TemporaryDirectory()

# %% [markdown]
# ## How hard it pushes
#
# The [chapter before](objective) ended with the *suppression*, the gradient of the loss on the rejected item's score,
#
# $$w = \beta\,\sigma(-\beta h), \qquad
# h = \big[s_\theta(i^+) - s_\theta(i^-)\big] - \big[s_\mathrm{ref}(i^+) - s_\mathrm{ref}(i^-)\big] ,$$ (eq-push)
#
# with the margin $h$ of {eq}`eq-margin`. It starts at $\beta/2$, where policy and reference agree, and fades as the
# policy sets the pair further apart than the reference does.

# %% tags=["hide-input"]
betas = sorted({0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, beta})
margins = np.linspace(-8, 8, 161)
curves = {f"β = {b}": 1 / (1 + np.exp(b * margins)) for b in betas}
fig = go.Figure([go.Scatter(x=margins, y=curve, mode="lines", name=name) for name, curve in curves.items()])
figures.slider(fig, {str(b): [n] for n, b in enumerate(betas)}, str(beta), "β = ")
fig.update_xaxes(title="margin h")
fig.update_yaxes(title="suppression w / β", range=[0, 1.02])
figures.show(
    fig,
    caption="Suppression as a share of its ceiling β. A small β pushes nearly all pairs alike; a large one spends "
    "itself on pairs that the policy sets less apart than the reference does. Drag β.",
    alt="An S-shaped curve that falls from 1 at strongly negative margins through one half at zero to 0.",
    data=pd.DataFrame({"h": margins, **curves})[::16],
)

# %% [markdown]
# ## Where false negatives stand
#
# ```{margin}
# A uniform draw from the $K$ eligible items that the policy itself scores highest is our reading of the paper; whether
# it draws uniformly, and who ranks its pool, is not known to us.
# ```
#
# Now a real model. A reference is trained on the [synthetic world](data), and a policy is aligned from it for a few
# epochs with `topk`. Because the world keeps its truth, every candidate can be asked: *would this user have wanted it?*

# %%
world = selection.SmallWorld.train(Path(holder.name), seed)
dataset, policy = world.dataset, world.align("topk", k, beta)
profile_of = world.profile(policy.model)

# %% tags=["hide-input"]
share = profile_of.false_negative.mean(0)
depth = np.unique(np.geomspace(1, dataset.n_items, 80).astype(int))
smooth = np.array([share[:n].mean() for n in depth])
fig = go.Figure(go.Scatter(x=depth, y=smooth, mode="lines", name="pool of K", **figures.style("topk")))
fig.add_vline(x=k, line_dash="dot", line_color=figures.GREY)
fig.add_annotation(x=np.log10(k), y=1, yref="paper", text=f"K = {k}", showarrow=False, xshift=24)
fig.update_xaxes(type="log", dtick=1, title="pool size K (1: hard, right end: uniform)")
fig.update_yaxes(title="share of false negatives in the pool", tickformat=".0%", rangemode="tozero")
figures.show(
    fig,
    caption=f"How many of the candidates the user would have wanted at that moment: {share[0]:.0%} at rank one, "
    f"{share[:k].mean():.0%} within the best {k}, {smooth[-1]:.0%} over all items.",
    alt="The share of false negatives in the pool falls as the pool grows from the single hardest item to the whole "
    "catalogue.",
    data=pd.DataFrame({"K": depth, "false negatives": smooth}),
)
record("false_negatives_at_rank_one", share[0])
record("false_negatives_in_pool", share[:k].mean())

# %% [markdown]
# ## Erroneous and informative suppression
#
# Let a selector draw rank $r$ with probability $q_r$, let $f_r \in \{0, 1\}$ say whether the item there is a false
# negative, and $w_r$ how hard it would be pushed. At one position the expected push splits in two,
#
# $$\underbrace{\sum_r q_r f_r w_r}_{\text{erroneous}} \qquad
# \underbrace{\sum_r q_r (1 - f_r) w_r}_{\text{informative}} ,$$ (eq-parts)
#
# and both are averaged over positions. For a pool of the best $K$, $q_r = 1/K$ up to rank $K$: one pass over the sorted
# catalogue gives every $K$ at once.

# %% tags=["hide-input"]
parts = {b: profile_of.by_pool_size(LossConfig(beta=b)) for b in betas}
fig = go.Figure()
for b in betas:
    for name, values, number in (("erroneous", parts[b][0], 1), ("informative", parts[b][1], 0)):
        fig.add_scatter(x=depth, y=values[depth - 1] / b, name=name, mode="lines", **figures.style(number))
figures.slider(fig, {str(b): [2 * n, 2 * n + 1] for n, b in enumerate(betas)}, str(beta), "β = ")
fig.update_xaxes(type="log", dtick=1, title="pool size K")
fig.update_yaxes(title="expected suppression / β", rangemode="tozero")
erroneous, informative = (part / beta for part in parts[beta])
figures.show(
    fig,
    caption="Expected push per position, as a share of β, by pool size. Erroneous suppression lands on items that the "
    f"user wants. Drag β; the scores are those of the one policy, which was aligned at β = {beta}.",
    alt=f"Two curves over pool size. From hard to uniform, erroneous suppression goes from {erroneous[0]:.2f} to "
    f"{erroneous[-1]:.2f} and informative from {informative[0]:.2f} to {informative[-1]:.2f}.",
    data=pd.DataFrame({"K": depth, "erroneous / β": erroneous[depth - 1], "informative / β": informative[depth - 1]}),
)

# %% [markdown]
# ## By how much?
#
# Three selectors ([there are more](selection)), at the parameters of this page, all judged on the scores of the one
# policy that was aligned with `topk`, with dropout off. Below the table, positions are first averaged within users, and
# the interval is a bootstrap over users.
#
# One caution: while a policy *trains*, dropout blurs its scores, so the item that `hard` then picks is not always the
# one that it would rank first with dropout off. What follows is about the selectors as they are defined.

# %% tags=["hide-input"]
loss = LossConfig(beta=beta)
selectors = {name: NegativesConfig(name=name, k=k) for name in ("hard", "topk", "uniform")}
suppression = {name: selection.suppression(profile_of, negatives, loss) for name, negatives in selectors.items()}
change = selection.change(suppression["hard"], suppression["topk"])
pushes = selection.summary(suppression)
positions = len(profile_of.users)
figures.table(pushes, f"Expected suppression per position, over {positions:,} positions, K = {k}, β = {beta}")
record("erroneous_topk_against_hard_percent", change["erroneous"].estimate)

# %% tags=["hide-input"]
by_position = 100 * (pushes.loc["topk"] / pushes.loc["hard"] - 1)
sums = pushes["erroneous"] + pushes["informative"]
Markdown(
    f"Against always taking the hardest item, the top-{k} pool changes erroneous suppression by "
    f"**{change['erroneous'].text(1)}** and informative suppression by **{change['informative'].text(1)}** (95 % "
    "interval over users, one world and one training seed). The table averages over positions, so users with long "
    f"histories weigh more in it: there it is {signed(by_position['erroneous'], 1)} % and "
    f"{signed(by_position['informative'], 1)} %."
    f"\n\nAdd the two columns: the sums lie between {sums.min():.3f} and {sums.max():.3f}, and β/2 is {beta / 2:g}. "
    "Every margin starts at zero, however easy the rejected item, because the reference's own difference is "
    "subtracted, and after a few epochs it is still small. So both columns are nearly β/2 times the shares of false "
    "negatives and of the rest, and what one gains the other loses. In BPR, where nothing is subtracted, the push on "
    "an easy item has faded from the start; in DPO it has not."
)

# %% [markdown]
# ## Three ways to the same number
#
# The sum above, with $w = \beta\,\sigma(-\beta h)$ written out; the gradient that automatic differentiation finds for
# the expected loss, in double precision; and the selector itself, drawing again and again. The first two must agree to
# the last digits, the third within the error of its draws, which the selector's probabilities state beforehand.

# %% tags=["hide-input"]
draws, temperature, candidates = 40, 0.5, 100
names = ("hard", "topk", "topk_softmax", "rank_window", "dns", "uniform")
settings = [NegativesConfig(name=name, k=k, temperature=temperature, candidates=candidates) for name in names]
ways = agreement.three_ways(profile_of, settings, loss, draws)
errors = {"autograd − closed form": "autograd, off by", "standard error": "its error", "gap in errors": "gap / error"}
figures.table(
    ways.rename(columns=errors),
    f"Erroneous suppression per position, three ways; {draws} draws a position; `topk_softmax` with τ = "
    f"{temperature}, `dns` with {candidates} candidates, `rank_window` without the best {NegativesConfig().skip}",
)
record("autograd_error_below_1e-12", bool(ways["autograd − closed form"].abs().max() < 1e-12))
record("monte_carlo_within_4_errors", bool(ways["gap in errors"].abs().max() < 4))

# %% [markdown]
# ## Would a loss find out?
#
# ```{margin}
# `rpo` starts at a tenth of wrong labels. Its authors show that the share comes out right *if the model is
# calibrated*: here, if $\sigma(\beta h)$ were the chance that the label is right. What is wanted is counted with
# dropout off, and an item that is wanted as much as the positive counts, too; so the two need not be equal.
# ```
#
# The sampler avoids wrong pairs without knowing which ones they are. A loss could try to know: `rpo`
# {cite}`cao2025rpo` takes each pair the wrong way round with some probability, by its margin, and learns from all pairs
# how common that is, as [the family](objective) writes down. In this world it can be checked.

# %% tags=["hide-input"]
epochs = 4
believed = world.believed(selectors.values(), beta, epochs)
last = believed[f"believed, epoch {epochs}"]
figures.table(
    believed.drop(columns="margin").round(1),
    "Percent of the rejected items that the user wants, and of the pairs that `rpo` believes to be the wrong way "
    f"round; K = {k}, β = {beta}",
)
for name in believed.index:
    record(f"wrong_percent_{name}", believed.at[name, "wrong"])
    record(f"believed_wrong_percent_{name}", last[name])
start = 100 * (1 - LossConfig().eta)
Markdown(render("believed", **believed[["wrong", "margin"]], start=start, last=last, epochs=epochs))

# %% [markdown]
# ## The push that every strategy shares
#
# Beside the preference loss stands the cross-entropy anchor $\lambda_\mathrm{ce} L_\mathrm{ce}$. With $L_\mathrm{ce} =
# -s(i^+) + \log\sum_j e^{s(j)}$, its gradient on the score of any item $j \ne i^+$ is the softmax, $\partial
# L_\mathrm{ce} / \partial s(j) = \pi(j \mid S)$: it pushes *every* item down, in proportion to its probability, and no
# selector has a say in it.

# %% tags=["hide-input"]
anchor = selection.anchor(profile_of)
gap = agreement.anchor_error(profile_of)
record("anchor_error_below_1e-6", gap < 1e-6)
Markdown(
    f"By autograd in float64 the formula is right to {gap:.0e}. At λ = 1 the anchor pushes false negatives by "
    f"**{anchor['erroneous'].mean():.3f}** per position and the other candidates by "
    f"{anchor['informative'].mean():.3f}; DPO with `topk` pushes false negatives by "
    f"{pushes.loc['topk', 'erroneous']:.3f}."
)

# %% [markdown]
# ## May the rates be multiplied?
#
# It is tempting to multiply the share of false negatives at a rank by the average push there. That is right only if the
# two are independent given the rank. The ratio below would be 1 at every rank if they were.

# %% tags=["hide-input"]
top, ranks = slice(0, 50), np.arange(1, 51)
weight = profile_of.suppression(loss)
joint = (weight * profile_of.false_negative)[:, top].mean(0)
product = weight[:, top].mean(0) * share[top]
fig = go.Figure(go.Scatter(x=ranks, y=joint / product, mode="markers", name="ratio"))
fig.add_hline(y=1, line_dash="dot", line_color=figures.GREY)
fig.update_xaxes(title="rank of the candidate")
fig.update_yaxes(title="E[f w] / (E[f] E[w])")
figures.show(
    fig,
    caption="False negatives against their neighbours of the same rank: on average over the first 50 ranks the true "
    f"value is {signed(100 * (joint.sum() / product.sum() - 1), 1)} % away from the product of the averages.",
    alt="Points for ranks 1 to 50 around the line at one.",
    data=pd.DataFrame({"rank": ranks, "E[f w]": joint, "E[f] E[w]": product}),
)

# %% [markdown]
# *Change this and rerun:* with `k = 1` the pool is the hardest item; look at whether both changes in *By how much?* are
# then exactly zero.
#
# ## Exercises
#
# Guess first, then open the cell below the question: it computes the answer.
#
# **1. Twice the pool.** Double $K$. Does the erroneous push halve? And where does the informative push go?

# %% tags=["hide-cell"]
sizes = np.unique(np.clip([k // 2, k, 2 * k, 10 * k], 1, dataset.n_items))
wrong, right = (part[sizes - 1] for part in parts[beta])
near = profile_of.by_pool_size(loss, k)[1][sizes - 1]
pools = {"K": sizes, "false negatives in the pool": [f"{share[:n].mean():.1%}" for n in sizes]}
pools |= {"erroneous": wrong, "informative": right, f"of it on the best {k}": near}
figures.table(pd.DataFrame(pools), f"Expected suppression per position by pool size, β = {beta}")

# %% [markdown]
# :::{dropdown} Why
# A larger pool gives each member less, but it has more members. The erroneous push is the *average* of $f_r w_r$ over
# the pool, so it falls only as fast as false negatives thin out with rank. The informative push need not fall at all,
# but ever more of it lands on items further down, which do not compete with the target for a place in the list.
# :::
#
# **2. The anchor's part.** At which $\lambda_\mathrm{ce}$ does the anchor push false negatives as hard as the
# preference loss does? At $\lambda_\mathrm{ce} = 1$, by how much does the step from `hard` to `topk` lower the *sum* of
# both?

# %% tags=["hide-cell"]
by_anchor = selection.user_means(anchor)["erroneous"].mean()
by_loss = {name: selection.user_means(table)["erroneous"].mean() for name, table in suppression.items()}
equal = ", ".join(f"{x / by_anchor:.2f} for `{name}`" for name, x in by_loss.items())
total = (by_loss["topk"] + by_anchor) / (by_loss["hard"] + by_anchor) - 1
Markdown(
    f"They are equal at λ = {equal}. From `hard` to `topk` the erroneous push of the loss changes by "
    f"{by_loss['topk'] / by_loss['hard'] - 1:+.1%}, that of loss and anchor together, at λ = 1, by {total:+.1%} "
    "(users averaged, as in *By how much?*)."
)

# %% [markdown]
# :::{dropdown} Why
# The anchor pushes every item by its probability, false negatives included, and no selector changes that. The larger
# $\lambda_\mathrm{ce}$ is, the smaller the part of all erroneous pushes that a selector can save.
# :::
#
# **3. A ranking that knows nothing.** Suppose that what users want had nothing to do with the policy's ranking. Shuffle
# the false negatives of each position over its ranks: what is left of the difference between the selectors?

# %% tags=["hide-cell"]
shuffle = np.random.default_rng(seed).permuted
blind = shuffle(profile_of.false_negative, axis=1) & profile_of.real
cases = {"as measured": profile_of, "shuffled": replace(profile_of, false_negative=blind)}
erroneous = {
    name: selection.summary({s: selection.suppression(case, negatives, loss) for s, negatives in selectors.items()})
    for name, case in cases.items()
}
figures.table(
    pd.DataFrame({name: table["erroneous share"] for name, table in erroneous.items()}),
    "Erroneous share of the expected suppression",
)

# %% [markdown]
# :::{dropdown} Why
# Shuffled, every rank holds a false negative equally often, and every selector meets as many. The case for a pool needs
# both halves of this chapter: a log that leaves out much of what is wanted, *and* a model good enough to rank it first.
# With a complete log, or a poor model, there is nothing to be robust against.
# :::
#
# ## Takeaways
#
# - DPO on a softmax recommender is a logistic loss on four scores; $w = \beta\sigma(-\beta h)$ says how hard it pushes.
# - In this world false negatives are commoner towards the top of the ranking, so the hardest negative is the riskiest.
# - A pool trades: a larger $K$ makes fewer wrong pushes, and each right push lands on an easier item. Whether that
#   trade *pays* is a question about ranking, not about gradients, and it is asked of real data in [the
#   results](results).
#
# **Next:** [negative selection](selection).
