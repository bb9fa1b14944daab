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
# # The lab
#
# **The question.** Why does the hardest negative hurt, when would it not, and what does the size of the pool do? This
# page does not tell: you find out by trying, and it says afterwards what of that holds on real purchases.
#
# *Playing: 10 minutes. Running: about two minutes. Before this: [negative selection](selection) helps, and is not
# needed.* Both figures compute in your browser, the real loss with its real gradients, whatever you set. They work by
# mouse, by finger, and by keyboard (Tab, space, arrows).

# %% tags=["parameters", "hide-input"]
profile = "smoke"
seed = 0
k = 4  # pool size K of the shop
beta = 0.2
ledger_folder = None  # the project's own, data/results

# %% tags=["hide-input"]
import tempfile
from pathlib import Path

import pandas as pd
import plotly.graph_objects as go
import torch
from companion.demonstrations import lab
from companion.demonstrations.lab_world import World
from companion.evidence.grid import Grid
from companion.evidence.ledger import Ledger
from companion.evidence.plan import GRID
from companion.findings.sentences import render
from companion.site import figures
from companion.site.pages import record
from IPython.display import Markdown
from plotly.subplots import make_subplots

from rodpo_lite.losses.preference import LOSSES, LossConfig, Pairs

figures.setup()
holder = tempfile.TemporaryDirectory()

# %% [markdown]
# ## The pool, by hand
#
# An ice-cream parlour sells twelve flavours. A customer took pistachio. The bars are what a model expects of this
# customer: its *scores*, best first. One step of training pushes pistachio up and one other flavour down, the
# *negative*, though nobody asked what the customer thinks of that one. The three columns start alike. They differ in
# the flavour that they push down: the best of the rest, which is the *hardest* negative; one of the best $K$ as
# they rank now, the *pool*; or any. β says how hard a push can be, and the *anchor* λ how much plain training goes
# along.

# %% tags=["hide-input"]
flavours = "Vanilla Chocolate Cherry Hazelnut Lemon Pistachio Coffee Mango Mint Coconut Liquorice Beetroot".split()
shop = pd.DataFrame({"item": flavours, "score": [3.2, 2.9, 2.7, 2.3, 2.1, 1.7, 1.5, 1.2, 0.9, 0.6, 0.3, 0.0]})
shop["taken"] = shop["item"] == "Pistachio"
settings = lab.Settings(k=k, beta=beta, lambda_ce=0.05, rate=4.0)
names = {"hard": "the hardest", "topk": f"one of the top {k}", "uniform": "any item"}
after = lab.steps_of(shop, names, settings, seed=2, steps=10)

# %% tags=["hide-input"]
fig = make_subplots(1, 3, subplot_titles=list(names.values()), horizontal_spacing=0.14)
for place, name in enumerate(names, start=1):
    column = after[after["selector"] == name].sort_values("after")
    fig.add_bar(
        x=column["after"], y=column["item"], orientation="h", marker_color=figures.GREY, row=1, col=place
    )  # fmt: skip
    marks = {"mode": "markers", "marker": {"symbol": "line-ns-open", "size": 10, "color": figures.VERMILION}}
    fig.add_scatter(x=column["score"], y=column["item"], **marks, row=1, col=place)
fig.update_layout(height=480, showlegend=False)
fig.update_xaxes(title="score", range=[-1, 6])
figures.show(
    fig,
    caption="Twelve flavours under three selectors.",
    still="This is what ten steps do: bars are scores after them, strokes scores before.",
    alt="Three columns of twelve flavours, each with a bar for its score. In each, a step moves pistachio up and one "
    "other flavour down: the first in the left column, one of the best few in the middle, any in the right one.",
    data=after[["selector", "item", "score", "after", "hits", "pushed"]],
    live="pool",
)
record("hits_on_vanilla_of_hard", after.set_index(["selector", "item"])["hits"]["hard", "Vanilla"])

# %% [markdown]
# :::{dropdown} What to take along (guess first)
# The hardest negative is the item that the model likes best, so wherever the model is good it is an item that people
# like, and every step comes back to it. Where what stands on top is really unwanted, the same selector spends its push
# where it counts. $K$ moves between the two: where likes stand on top, a larger pool is wrong less often, and it spends
# more on items that compete with nothing.
# :::
#
# ### The same step in Python
#
# In the browser the step is written out by hand; here the same numbers come from the package, with its loss and
# automatic differentiation. With $\pi$ the softmax of the scores $s$, and $s_\mathrm{ref}$ of the frozen reference,
#
# $$\begin{aligned}
# L &= -\log\sigma(\beta h) - \lambda\log\pi(i^+), \\
# h &= \big[s(i^+) - s(i^-)\big] - \big[s_\mathrm{ref}(i^+) - s_\mathrm{ref}(i^-)\big] .
# \end{aligned}$$ (eq-step)

# %%
reference, eligible = (table[None] for table in lab.tables_of(shop))  # [1, N]
scores = reference.clone().requires_grad_()
taken, rejected = flavours.index("Pistachio"), flavours.index("Vanilla")
sides = [(side[:, taken], side[:, [rejected]]) for side in (scores, reference)]
pairs, loss = Pairs(*sides[0], *sides[1]), LossConfig(beta=beta)
value = LOSSES["dpo"].function(pairs, loss, {}).sum() - settings.lambda_ce * scores.log_softmax(1)[0, taken]
value.backward()
one_step = (scores - settings.rate * scores.grad).detach()[0]
push = LOSSES["dpo"].suppression(pairs, loss).item()
Markdown(
    f"Vanilla goes from {reference[0, rejected]:.2f} to {one_step[rejected]:.2f}, pistachio from "
    f"{reference[0, taken]:.2f} to {one_step[taken]:.2f}. The preference loss pushes vanilla down by "
    f"{settings.rate * push:.2f}, which is the rate, {settings.rate:g}, times the suppression, {push:.2f}; the rest is "
    "the anchor's, which pushes every flavour by its probability."
)

# %% [markdown]
# ## The race
#
# In a recommender all users share the vectors of the items: what one user's step pushes down sinks for everybody, until
# another's lifts it again. Here is a small [synthetic world](data) of 300 users and 400 items, with a model of
# `rodpo_lite` that was trained on its log, the *reference*. Two hundred steps of alignment go on from there, with four
# selectors at once. In such a world it is known what each user would like, so that wrong pushes can be counted.
#
# *Hidden likes* are what users would like and the log does not show: at 1 all of it may be pushed down, at 0 none. A
# reference of 6 epochs has just learnt; one of 48 knows its log by heart.

# %%
world = World.train(Path(holder.name), seed)
curves = lab.race(world, 1, lab.USUAL)

# %% tags=["hide-input"]
fig = go.Figure()
for name, part in curves.groupby("selector", sort=False):
    fig.add_scatter(x=part["step"], y=part["NDCG@5 change %"], mode="lines", name=name, **figures.style(name))
fig.update_xaxes(title="step")
fig.update_yaxes(title="NDCG@5, change from the reference, %", range=[-20, 10])
figures.show(
    fig,
    caption="Four selectors, aligned from the same reference with the same luck; the data are those of the first race. "
    "NDCG@5 is about what users would like and do not have yet, in lists without what they have.",
    still="This is the race as it is set at first.",
    alt="Four curves of NDCG@5 over 200 steps, against the reference: the hardest negative falls below it, the others "
    "stay near it.",
    data=curves.assign(**{push: curves[push] / lab.USUAL.beta for push in ("wrong push", "right push")}),
    live="race",
    inputs=world.payload(),
)

# %% [markdown]
# Here the twin is `companion.demonstrations.lab.Race`: the same steps on the same vectors, with the package's loss, its
# laws of the draw and automatic differentiation. Tests hold the two together to six digits.
#
# ## Does it hold on real purchases?
#
# Everything below on Amazon reviews is computed from the ledger, NDCG@5 of test with all items ranked, 95 % intervals
# over users and seeds; [results](results) and [sensitivity](sensitivity) have all of it.

# %% tags=["hide-input"]
ends = {name: lab.ends(world, *scenario)["NDCG@5 change %"].to_dict() for name, scenario in lab.SCENARIOS.items()}
Markdown(render("lab", here=ends, lucks=lab.LUCKS, **lab.on_record(Grid.read(GRID), Ledger.open(ledger_folder))))

# %% tags=["hide-input"]
recorded = [(scenario, "hard") for scenario, changes in ends.items() if "hard" in changes]
for scenario, selector in [*recorded, ("usual", "topk"), ("small pool", "topk")]:
    record(f"{scenario.replace(' ', '_')}_{selector}_percent", ends[scenario][selector])
record("bytes_of_the_world", len(str(world.payload())))

# %% [markdown]
# **Where the small world differs.** Shop and race start from a $K$ and a β that suit a dozen and 400 items; those of
# the recorded runs were chosen on validation ([sensitivity](sensitivity)). Only the item vectors move, and histories
# keep their states. Steps are plain gradient descent at a constant rate, where the recorded runs take Adam, choose β,
# $K$, rate and anchor on validation, and keep the best epoch. A fifth of the catalogue is liked by each user, so that
# even a random item is often a false negative; how many of twelve thousand toys somebody would like is not known. And
# NDCG asks here for all that is liked, there for the one item that was bought next.
#
# ## Exercises
#
# Guess first, then open the cell below the question: it computes the answer.
#
# **1. Draws and pushes.** In the shop, which share of forty hardest negatives is vanilla, and which share of the push
# does it take? Will the two be equal?

# %% tags=["hide-cell"]
long = lab.steps_of(shop, ["hard"], settings, seed=2, steps=40).set_index("item")
shares = (long[["hits", "pushed"]] / long[["hits", "pushed"]].sum()).loc["Vanilla"]
Markdown(f"{shares['hits']:.0%} of the draws, and {shares['pushed']:.0%} of the push.")

# %% [markdown]
# :::{dropdown} Why
# The push $\beta\,\sigma(-\beta h)$ fades as the margin grows, and the early ones are the hardest. Vanilla was on top
# at the start, so it took those.
# :::
#
# **2. Two selectors in one.** At which $K$ does the law of the pool become that of `uniform`, and what is the
# probability of vanilla then?

# %% tags=["hide-cell"]
laws = {size: lab.law("topk", reference, eligible, size)[0] for size in (1, 4, 10, 11)}
uniform = lab.law("uniform", reference, eligible, 1)[0]
table = [(size, float(law[rejected]), bool(torch.equal(law, uniform))) for size, law in laws.items()]
figures.table(pd.DataFrame(table, columns=["K", "probability of vanilla", "the law of uniform"]), "The law of the pool")

# %% [markdown]
# :::{dropdown} Why
# Eleven of the twelve may be rejected; pistachio may not. With all of them in the pool, each has the same probability,
# and no score matters any more.
# :::
#
# ## Takeaways
#
# - Training never sees what a user would like; that only says afterwards which pushes were wrong.
# - The hardest negative is the best one as long as it is a negative. How many are not decides, and how hard each push
#   is.
# - $K$ trades wrong pushes for pushes that do not matter. It has no best value apart from the data.
# - All of this is shown in small worlds whose truth is known. What real purchases say of it stands above.
#
# **Next:** [training](training).
