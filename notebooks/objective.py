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
# # The DPO objective, step by step
#
# **The question.** A click says what was taken, never how much it was wanted. How can a recommender be trained on “this
# rather than that”?
#
# **The answer.** Score the taken and the rejected item, once with the model in training, the *policy*, and once with
# the frozen copy that it started from, the *reference*. Those four scores make a margin $h$, and the loss is
# $-\log\sigma(\beta h)$. Neither a reward model nor a sum over the catalogue is needed, and this page shows why; each
# step is checked with numbers.
#
# *Reading: 12 minutes. Running: seconds. Before this: [data preparation](data). You need: logarithms, gradients, the
# softmax.*

# %% tags=["hide-input"]
from companion.site import figures

from rodpo_lite.losses import preference

figures.source(preference.Pairs.margin, preference.Pairs.policy_margin, preference.dpo)

# %% [markdown]
# That is all of it, as this package has it: `softplus(-x)` is $-\log\sigma(x)$, and $n$ is how many items are rejected
# at a position.

# %% tags=["parameters", "hide-input"]
profile = "smoke"
seed = 0
beta = 0.5
n_items = 50  # of the toy catalogue on which each step is checked

# %% tags=["hide-input"]
import pandas as pd
import plotly.graph_objects as go
import torch
from companion.site.pages import record, record_defaults
from IPython.display import Markdown

from rodpo_lite.errors import InputError
from rodpo_lite.evaluation.statistics import signed
from rodpo_lite.losses.preference import LossConfig
from rodpo_lite.settings import build

figures.setup()
config = build(LossConfig, {"beta": beta})
if not isinstance(n_items, int) or n_items < 20:
    raise InputError(f"n_items = {n_items!r} is not valid: use a whole number from 20 on.")
generator = torch.Generator().manual_seed(seed)
reward, reference, policy = (torch.randn(n_items, generator=generator, dtype=torch.float64) for _ in range(3))
log_reference = reference.log_softmax(0)

# %% [markdown]
# ## Step 1: the best policy that stays near the reference
#
# Suppose that a reward $r(S, j)$ said how much a user with history $S$ wants item $j$. The policy should earn reward,
# but not stray far from the reference that we trust:
#
# $$\max_\pi \; \mathbb{E}_{j \sim \pi}\big[r(S, j)\big] -
# \beta\, \mathrm{KL}\big(\pi \,\|\, \pi_\mathrm{ref}\big) .$$ (eq-objective)
#
# Write both terms as one sum, $\sum_j \pi(j) \big[ r(S,j) - \beta \log \frac{\pi(j)}{\pi_\mathrm{ref}(j)} \big]$. It
# equals $\beta \log Z - \beta\, \mathrm{KL}(\pi \| \pi^*)$ with
#
# $$\pi^*(j \mid S) = \frac{1}{Z(S)}\, \pi_\mathrm{ref}(j \mid S)\, e^{r(S, j) / \beta},
# \qquad Z(S) = \sum_j \pi_\mathrm{ref}(j \mid S)\, e^{r(S, j) / \beta} ,$$ (eq-best)
#
# and a KL divergence is smallest, zero, where $\pi = \pi^*$. So the optimum is known without any search. A search finds
# the same:


# %%
def objective(logits):
    log_policy = logits.log_softmax(0)
    return (log_policy.exp() * (reward - beta * (log_policy - log_reference))).sum()


def closure():
    search.zero_grad()
    loss = -objective(logits)
    loss.backward()
    return loss


logits = torch.zeros(n_items, dtype=torch.float64, requires_grad=True)
strict = {"max_iter": 500, "tolerance_grad": 1e-12, "tolerance_change": 0, "line_search_fn": "strong_wolfe"}
search = torch.optim.LBFGS([logits], **strict)

# %%
search.step(closure)
best = log_reference + reward / beta
log_z = best.logsumexp(0)
searched = logits.detach().log_softmax(0).exp()
differences = {
    "objective at the closed form against β log Z": objective(best) - beta * log_z,
    "objective found by search against the closed form": objective(logits.detach()) - objective(best),
    "policy found by search against the closed form": searched - best.softmax(0),
}
steps = [(check, float(difference.abs().max())) for check, difference in differences.items()]
steps = pd.DataFrame(steps, columns=["check", "largest difference"])
figures.table(steps, f"Step 1 on {n_items} items, β = {beta}")
record("search_reaches_the_closed_form", bool(steps["largest difference"].max() < 1e-5))

# %% [markdown]
# ## Step 2: turn it around
#
# If the best policy is a function of the reward, the reward is a function of the best policy. Solve {eq}`eq-best` for
# $r$:
#
# $$r(S, j) = \beta \log \frac{\pi^*(j \mid S)}{\pi_\mathrm{ref}(j \mid S)} + \beta \log Z(S) .$$ (eq-reward)
#
# Any policy $\pi_\theta$ is therefore the optimum of *some* reward, its **implicit reward**. $Z(S)$ is a sum over the
# whole catalogue, but it does not depend on $j$.

# %%
implicit = beta * (best.log_softmax(0) - log_reference) + beta * log_z
gap = float((implicit - reward).abs().max())
record("implicit_reward_error_below_1e-9", gap < 1e-9)
record_defaults(LossConfig)
Markdown(f"Reward recovered from the policy, largest error over {n_items} items: **{gap:.1e}**.")

# %% [markdown]
# ## Step 3: preferences need differences only
#
# The Bradley–Terry model says how often $i^+$ is preferred to $i^-$:
#
# $$P(i^+ \succ i^- \mid S) = \sigma\big(r(S, i^+) - r(S, i^-)\big) .$$ (eq-preference)
#
# Put the implicit reward in. The term with $Z(S)$ stands in both and drops out, and what is left is
# $\sigma(\beta h)$ with the **margin**
#
# $$\begin{aligned}
# h &= \log\frac{\pi_\theta(i^+ \mid S)}{\pi_\mathrm{ref}(i^+ \mid S)}
# - \log\frac{\pi_\theta(i^- \mid S)}{\pi_\mathrm{ref}(i^- \mid S)} \\
# &= \big[s_\theta(i^+) - s_\theta(i^-)\big] - \big[s_\mathrm{ref}(i^+) - s_\mathrm{ref}(i^-)\big] .
# \end{aligned}$$ (eq-margin)
#
# The second form is special to softmax policies: their own normalisers cancel as well, so four scores are enough.
# Maximum likelihood for the observed preferences is the DPO loss {cite}`rafailov2023dpo`
#
# $$L = -\log \sigma(\beta h) .$$ (eq-dpo)

# %%
ratio = policy.log_softmax(0) - log_reference
chosen, rejected = 3, 17
by_probability = ratio[chosen] - ratio[rejected]
shapes = {chosen: (1,), rejected: (1, 1)}
scores = [model[item].reshape(shape) for model in (policy, reference) for item, shape in shapes.items()]
pair = preference.Pairs(*scores)
gap = float((pair.margin - by_probability).abs())
record("margin_from_four_scores_error_below_1e-12", gap < 1e-12)
Markdown(
    f"Margin from probabilities and from four scores: **{float(by_probability):.6f}** and "
    f"**{pair.margin.item():.6f}**, {gap:.1e} apart."
)

# %% [markdown]
# So a softmax recommender's DPO is *BPR with an offset* {cite}`rendle2009bpr`: the reference only moves the point where
# a pair counts as settled, from equal scores to the reference's own difference. Whatever a sampler of negatives does
# for BPR it can do for DPO, and `bpr` with the same negatives is the control that tells the two apart.
#
# ## Step 4: the gradient
#
# $$\frac{\partial L}{\partial s_\theta(i^-)} = \beta\,\sigma(-\beta h) = w, \qquad
# \frac{\partial L}{\partial s_\theta(i^+)} = -w .$$ (eq-gradient)
#
# Nothing else gets a gradient from the pair, and $w$, the **suppression**, is between 0 and β. Automatic
# differentiation gives the same:

# %%
push = preference.suppression_by_autograd("dpo", pair, config).item()
formula = beta * torch.sigmoid(-beta * pair.margin).item()
record("suppression_error_below_1e-12", abs(push - formula) < 1e-12)
Markdown(f"By autograd **{push:.9f}**, by the formula **{formula:.9f}**.")

# %% [markdown]
# ## The family
#
# Every loss below takes the same pairs. What differs is what it does with a pair that is hopeless, settled, or probably
# labelled the wrong way round, which is what a false negative is.

# %% tags=["hide-input"]
formulas = {
    "dpo": r"$-\log\sigma(\beta h)$",
    "bpr": r"$-\log\sigma\big(\beta[s_\theta(i^+)-s_\theta(i^-)]\big)$",
    "cdpo": r"$-(1-\varepsilon)\log\sigma(\beta h)-\varepsilon\log\sigma(-\beta h)$",
    "rdpo": r"$\frac{1}{1-2\varepsilon}\big[-(1-\varepsilon)\log\sigma(\beta h)+\varepsilon\log\sigma(-\beta h)\big]$",
    "ipo": r"$\big(h-\frac{1}{2\beta}\big)^2$",
    "simpo": r"$-\log\sigma\big(\beta\log\frac{\pi_\theta(i^+)}{\pi_\theta(i^-)}-\gamma\big)$",
    "dr_dpo": r"$-\beta'\log\mathbb{E}_b\, e^{-L_b/\beta'}$",
    "beta_dpo": r"$-\log\sigma(\beta_b h)$, $\beta_b=\beta\,[1+\alpha(\bar h_b-M_0)]$",
    "rpo": r"$-p\log\sigma(\beta h)-(1-p)\log\sigma(-\beta h)$",
    "sdpo": r"$-\log\sigma\big(-\log\sum_l e^{-\beta h_l}\big)$",
    "dmpo": r"$-\log\sigma\big(\frac{\beta}{n}\sum_l h_l\big)$",
}

# %% tags=["hide-input"]
rows = []
for name, loss in preference.LOSSES.items():
    keys = ", ".join(f"`{key}`" for key in loss.uses)
    rows.append((f"`{name}`", formulas.get(name, loss.summary), "yes" if loss.reference else "no", keys))
figures.table(
    pd.DataFrame(rows, columns=["loss", "formula", "looks at the reference", "keys"]),
    "Every registered preference loss: $L$ is that of `dpo`, $b$ the pairs of a batch, $l$ the $n$ negatives of a "
    "position",
    mathematics=["formula"],
)

# %% [markdown]
# Sources: `dpo` {cite}`rafailov2023dpo`, `bpr` {cite}`rendle2009bpr`, `cdpo` {cite}`mitchell2023cdpo`, `rdpo`
# {cite}`chowdhury2024rdpo`, `rpo` {cite}`cao2025rpo`, `ipo` {cite}`azar2024ipo`, `simpo` {cite}`meng2024simpo`,
# `dr_dpo` {cite}`wu2025drdpo`, `beta_dpo` {cite}`wu2024betadpo`, and, made for recommendation, `sdpo`
# {cite}`chen2024sdpo` and `dmpo` {cite}`bai2024dmpo`. In them $\varepsilon$ is the chance that a pair is labelled the
# wrong way round, $\gamma$ a margin to aim at, $p$ the estimated chance that a pair is labelled the right way round,
# whose running mean is `rpo`'s prior, and $\beta'$ says how much the worst pairs of a batch count. `beta_dpo` sets
# $\beta_b$, never below 0.001, by how the batch's mean margin $\bar h_b$ stands to its running mean $M_0$ (of
# `momentum`), with strength $\alpha$, and leaves a share `rho` of the pairs out, most likely those whose margin is far
# from $M_0$.

# %% tags=["hide-input"]
margins = torch.linspace(-6, 6, 121, dtype=torch.float64)
zero = torch.zeros_like(margins)
grid = preference.Pairs(margins, zero[:, None], zero, zero[:, None])
losses = [LossConfig(name=name, beta=beta) for name in ("dpo", "cdpo", "rdpo", "ipo", "simpo")]
curves = {loss.name: preference.suppression_by_autograd(loss.name, grid, loss)[:, 0].numpy() for loss in losses}
table = pd.DataFrame(
    {"h": margins.numpy().round(6) + 0, **{name: curve.round(9) + 0 for name, curve in curves.items()}}
)

# %% tags=["hide-input"]
fig = go.Figure()
for number, (name, curve) in enumerate(curves.items()):
    fig.add_scatter(x=margins.numpy(), y=curve, name=name, mode="lines", **figures.style(number))
fig.add_hline(y=0, line_dash="dot", line_color=figures.GREY)
fig.update_xaxes(title="margin h, the reference indifferent")
fig.update_yaxes(title="suppression w", range=[-0.6 * beta, 1.6 * beta])
figures.show(
    fig,
    caption=f"How hard each loss pushes the rejected item down, at β = {beta} and the default ε and γ. Below zero "
    "the item is pulled up again: `cdpo` does that once a pair is clearly the right way round, `ipo` from the margin "
    "1/(2β) on. `rdpo` pushes every pair harder than `dpo`, by the constant βε/(1 − 2ε), and never stops: what "
    "it undoes is what flipped labels would have taken off on average. `bpr` coincides with `dpo` here, because the "
    "reference is indifferent. `ipo` is a straight line that leaves the frame.",
    alt="Five curves of suppression over the margin: dpo and simpo fall from their ceiling to zero, cdpo crosses below "
    "zero, rdpo stays above dpo on the right, ipo is a falling straight line.",
    data=table[::10],
)

# %% [markdown]
# ## DPO in five lines
#
# Without any package: scores of all items by policy and reference, a row for each position, and which item was taken
# and which is rejected there.


# %%
def dpo(policy, reference, taken, rejected, beta):
    gained = policy - reference  # [P, N]
    chosen, refused = (gained.gather(1, items[:, None]) for items in (taken, rejected))
    margin = chosen - refused
    return -torch.nn.functional.logsigmoid(beta * margin).mean()


# %%
taken, refused = torch.tensor([3, 3, 5, 8]), torch.tensor([17, 2, 9, 1])
by_hand = dpo(policy.expand(4, -1), reference.expand(4, -1), taken, refused, beta)
pairs = preference.Pairs(policy[taken], policy[refused][:, None], reference[taken], reference[refused][:, None])
gap = abs(float(by_hand - preference.dpo(pairs, config, {}).mean()))
record("five_lines_error_below_1e-12", gap < 1e-12)
Markdown(f"On four pairs: **{float(by_hand):.9f}**, {gap:.1e} from what the package computes.")

# %% [markdown]
# *Change this and rerun:* with `n_items = 5000`, $Z$ is a sum over a hundred times as many items; look at whether the
# differences of steps 1 to 3 become larger with it.
#
# ## Exercises
#
# Guess first, then open the cell below the question: it computes the answer.
#
# **1. The price of leaving.** Make $\beta$ ten times smaller, then ten times larger. What happens to the reward that
# the best policy earns, and to its distance from the reference? Which item does it recommend in the limit $\beta \to
# 0$?

# %% tags=["hide-cell"]
rows = []
for strength in (beta / 10, beta, 10 * beta):
    log_policy = (log_reference + reward / strength).log_softmax(0)
    chance = log_policy.exp()
    away = chance @ (log_policy - log_reference)
    best_item = chance[reward.argmax()]
    rows.append((strength, *map(float, (chance @ reward, away, best_item))))
columns = ["β", "reward earned", "KL to the reference", "π of the best reward"]
figures.table(
    pd.DataFrame(rows, columns=columns),
    f"The best policy of step 1; the largest reward is {float(reward.max()):.3f}",
)

# %% [markdown]
# :::{dropdown} Why
# The reward stands as $r / \beta$ in the exponent. As $\beta \to 0$ the policy takes the item with the largest reward
# and forgets the reference; as $\beta$ grows it stays at the reference. In DPO the reward is whatever the pairs say,
# wrong pairs included, so at its optimum a small $\beta$ also goes further for a false negative. A few epochs do not
# reach that optimum, and until then a small $\beta$ means a small push: step 4 has it as a factor.
# :::
#
# **2. Where the short form ends.** Add 3 to every score of the policy, or double every score: which of the two changes
# the margin? And would four scores still be enough if each item had a probability of its own, $\pi(j) = \sigma(s(j))$,
# as a model that is trained with binary cross-entropy assumes?

# %% tags=["hide-cell"]
logs = [torch.clone, lambda s: s.log_softmax(0), torch.nn.functional.logsigmoid]
cases = {"as above": policy, "scores + 3": policy + 3, "scores doubled": 2 * policy}
rows = []
for name, changed in cases.items():
    ratios = [log(changed) - log(reference) for log in logs]
    rows.append((name, *(float(r[chosen] - r[rejected]) for r in ratios)))
columns = ["policy", "four scores", "softmax over all items", "a sigmoid per item"]
figures.table(pd.DataFrame(rows, columns=columns), "The margin of the pair of step 3")

# %% [markdown]
# :::{dropdown} Why
# A softmax has one normaliser for all items, so what is added to every score cancels and four scores say everything.
# With a sigmoid per item each item has a normaliser of its own, $1 + e^{s(j)}$, and nothing cancels: the margin then
# depends on how high the scores are, not only on their differences.
# :::
#
# **3. Two items only?** Take one gradient step of size 1 on the scores for the pair of step 4. By how much does
# $\log \pi_\theta$ change for $i^+$, for $i^-$, and for an item whose score gets no gradient?

# %% tags=["hide-cell"]
moved = policy.clone()
moved[chosen] += push
moved[rejected] -= push
change = (moved.log_softmax(0) - policy.log_softmax(0)).tolist()
others = [x for item, x in enumerate(change) if item not in (chosen, rejected)]
Markdown(
    f"By {signed(change[chosen], 4)} for i⁺, by {signed(change[rejected], 4)} for i⁻, and by "
    f"{others[0]:+.1e} for each of the others; these differ by at most "
    f"{max(others) - min(others):.0e}."
)

# %% [markdown]
# :::{dropdown} Why
# Only the normaliser changes for the others, so their order stays as it was. Its logarithm grows by about
# $w\,[\pi_\theta(i^+) - \pi_\theta(i^-)]$. If $i^-$ is a hard negative, more probable than $i^+$, it shrinks, and
# *every* other item gains a little. In a real recommender the scores come from shared parameters, so that a step on two
# moves others as well.
# :::
#
# ## Takeaways
#
# - DPO is the maximum likelihood of preferences under the reward that the policy itself implies.
# - The partition function drops out twice, once for the reward and once for the softmax; four scores are enough.
# - The gradient touches two items, with weight $\beta\sigma(-\beta h)$. Everything now depends on *which item is
#   rejected*.
# - Training adds plain cross-entropy to it, the *anchor*, with the weight λ; [sensitivity](sensitivity) shows what
#   comes of leaving it out.
#
# **Next:** [gradients under false negatives](gradients).
