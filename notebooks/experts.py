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
# # The sparse mixture-of-experts encoder
#
# **The question.** What does a sparse mixture of experts bring a recommender, and what does it cost?

# %% tags=["hide-input"]
from companion.evidence.grid import Grid
from companion.evidence.ledger import Ledger
from companion.evidence.plan import GRID
from companion.findings import answer
from companion.findings.sentences import render
from IPython.display import Markdown

Markdown(render("mixture", **answer.mixture(Grid.read(GRID), Ledger.open())))

# %% [markdown]
# *Reading: 10 minutes. Running: under a minute. Before this: [training](training).*

# %% tags=["parameters", "hide-input"]
profile = "smoke"
data = ""  # a folder, or a name in RODPO_DATA; empty makes a fresh synthetic world
seed = 0
epochs = 8
width = 32
experts = 8
experts_per_row = 2
catalogue = 12_000  # items for which costs are measured

# %% tags=["hide-input"]
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from companion.demonstrations import experts as mixture
from companion.demonstrations.experts import kinds
from companion.site import figures
from companion.site.pages import record, record_defaults

from rodpo_lite.config import ReferenceConfig
from rodpo_lite.data.schema import read_dataset
from rodpo_lite.data.synthetic import WorldSizes, open_world, synthesise
from rodpo_lite.model import capacity
from rodpo_lite.model.config import EncoderConfig
from rodpo_lite.model.recommender import Recommender
from rodpo_lite.settings import build
from rodpo_lite.training import runs

figures.setup()
dataset, _ = open_world(data, seed)
holder = tempfile.TemporaryDirectory()
space = Path(holder.name)

# %% [markdown]
# ## Many experts, few at work
#
# An item's vector is its ID embedding plus what its text and image say. A dense MLP computes the second part for every
# item with all of its weights. A **sparse mixture of experts** has $E$ small MLPs instead, and a router sends each item
# to $k$ of them {cite}`shazeer2017moe`:
#
# $$\begin{aligned}
# y &= \sum_{e \in \mathrm{top}\,k} g_e(x)\, f_e(x) + f_\mathrm{shared}(x), \\
# g &= \mathrm{softmax}\big(\text{the } k \text{ largest router logits}\big) .
# \end{aligned}$$ (eq-mixture)
#
# Items that a router does not send to an expert are not computed by it. Two small losses keep the router healthy: the
# balance loss $E \sum_e \ell_e P_e$ {cite}`fedus2022switch` of the share $\ell_e$ of rows that an expert gets (its
# load) and its mean probability $P_e$ before the choice, 1 when all experts get the same, and the z-loss, which keeps
# logits small {cite}`zoph2022stmoe`.
#
# A fair competitor has the same *active* parameters: an MLP as wide as the $k$ experts and the shared one together, the
# **dense twin**.


# %% tags=["hide-input"]
encoders = mixture.encoders(width, experts, experts_per_row)
moe = encoders["sparse fusion"]
trained, rows = {}, []
for name, encoder in encoders.items():
    training = {"epochs": epochs, "precision": "fp32"}
    config = build(ReferenceConfig, {"seed": seed, "encoder": encoder.model_dump(), "training": training})
    quality = runs.train(dataset, config, space / name)["valid"]["ndcg@5"]
    trained[name] = runs.load(space / name, dataset).model
    counts = capacity.parameter_counts(trained[name])
    rows.append((name, f"{counts.total:,}", f"{counts.active:,}", f"{counts.routers:,}", quality))
    record(f"active_parameters_{name.replace(' ', '_').replace('-', '_')}", counts.active)
table = pd.DataFrame(rows, columns=["encoder", "parameters", "active", "of routers", "validation NDCG@5"])
active = f"{experts_per_row} of {experts} experts active"
figures.table(table, f"Capacity of five encoders on {dataset.name}, {active}")

# %% [markdown]
# *Active* counts what one item or position uses, with the embedding tables whole. A sparse mixture and its twin differ
# by the router alone. Quality is one seed on a small world and decides nothing; [the results](results) will.
#
# ## Who goes where
#
# Nobody tells the router what an item is. In the synthetic world, titles name a kind of thing; elsewhere items are
# clustered by their text, and the most telling word of the titles names a cluster. Have kinds found their experts?
# Without any preference, each kind would go to an expert as often as all items do.

# %% tags=["hide-input"]
chosen, kind = mixture.chosen_experts(trained["sparse fusion"]), kinds(dataset)
lift = mixture.preferences(kind, chosen, experts)
heat = go.Heatmap(
    x=[str(e) for e in lift.columns], y=lift.index, z=lift.to_numpy(), zmin=0, zmax=2, colorscale="RdBu_r",
    colorbar={"title": "times"}, hovertemplate="expert %{x}, %{y}: %{z:.2f} times<extra></extra>",
)  # fmt: skip
fig = go.Figure(heat)
fig.update_xaxes(title="expert", dtick=1)
figures.show(
    fig,
    caption="How many times as often a kind goes to an expert as all items do; without a preference every cell would "
    "be 1.",
    alt=f"A map of item kinds by experts, from {lift.to_numpy().min():.1f} to {lift.to_numpy().max():.1f} times the "
    "share of all items.",
    data=lift.rename(columns=str).reset_index(),
)

# %% tags=["hide-input"]
apart = mixture.apart(kind, chosen, experts)
shuffled = [mixture.apart(np.random.default_rng(n).permutation(kind), chosen, experts) for n in range(100)]
low, high = 100 * min(shuffled), 100 * max(shuffled)
record("kinds_apart", apart)
Markdown(
    f"For an average kind, {100 * apart:.0f} % of its assignments would have to go elsewhere to look like those of "
    f"all items. With kinds shuffled over the items, which have none, it would be {low:.0f} to {high:.0f} %. So kinds "
    + ("have found their experts, if not one each." if 100 * apart > high else "have not found their experts.")
)

# %% tags=["hide-input"]
mixtures = ("sparse fusion", "sparse feed-forward")
load = pd.concat(mixture.expert_load(trained[name], dataset, moe.max_length) for name in mixtures)
fig = go.Figure()
for number, (layer, part) in enumerate(load.groupby("layer", sort=False)):
    fig.add_bar(x=part["expert"].astype(str), y=part["share"], name=layer, marker_color=figures.COLOURS[number])
fig.add_hline(y=1 / experts, line_dash="dot", line_color=figures.GREY)
fig.update_xaxes(title="expert")
fig.update_yaxes(title="share of assignments", tickformat=".0%")
figures.show(
    fig,
    caption="Load of the experts after training. The dotted line is an even load.",
    alt="Bars of the share of assignments by expert, for the fusion and for the feed-forward of each block.",
    data=load,
)
for layer, share in load.groupby("layer")["share"].max().items():
    record(f"busiest_expert_{layer.replace('.', '_')}", share)
record_defaults(EncoderConfig)

# %% [markdown]
# ## What it costs, and where
#
# At inference the catalogue's vectors are computed once and kept. A request encodes the user's history and multiplies.
# So a mixture in the *fusion* is paid when vectors are rebuilt, a mixture in the *Transformer* with every request. The
# cell measures all encoders in turn, on this machine, while the book is built, at the default width of 64 and for a
# catalogue as large as that of a real dataset. The weights are not trained: the work is the same.

# %% tags=["hide-input"]
large = read_dataset(synthesise(space / "large", seed, WorldSizes(users=400, items=catalogue)))
untrained = mixture.encoders(64, experts, experts_per_row)
models = {name: Recommender.for_dataset(encoder, large) for name, encoder in untrained.items()}
measured = mixture.costs(models, large, moe.max_length)
cost = measured.drop(columns="repeat").groupby("model", sort=False).min()
places = ("fusion", "feed-forward")
relative = {place: mixture.against(measured, f"sparse {place}", f"twin of the {place}") for place in places}
counts = pd.DataFrame({name: capacity.parameter_counts(model)._asdict() for name, model in models.items()}).T
milliseconds = (1000 * cost).round(2).rename(columns=lambda name: f"{name}, ms")
figures.table(
    counts.map("{:,}".format).rename_axis("encoder").join(milliseconds),
    f"Parameters, and the least of nine times, for {catalogue:,} items: a training step of 2,000 positions, "
    "rebuilding all item vectors, one request with kept vectors",
)

# %% tags=["hide-input"]
fig = go.Figure()
for number, (name, times) in enumerate(relative.items()):
    bars = {"x": list(times.index), "y": times["times"], "name": f"sparse {name}"}
    error = figures.whiskers(times["times"], times["low"], times["high"])
    fig.add_bar(**bars, marker_color=figures.COLOURS[number], error_y=error)
fig.add_hline(y=1, line_dash="dot", line_color=figures.GREY)
fig.update_yaxes(title="time against its dense twin", rangemode="tozero")
figures.show(
    fig,
    caption="Times of three kinds of work, each mixture against its own dense twin, the dotted line: median of nine "
    "measurements, and where the middle half of them lies.",
    alt="Grouped bars for a training step, rebuilding the vectors and one request: each sparse encoder against its "
    "dense twin.",
    data=pd.concat(relative, names=["mixture", "work"]).round(2).reset_index(),
)

# %% tags=["hide-input"]
plain = cost.loc["sparse fusion"] / cost.loc["linear"]
work = {
    "a training step": relative["fusion"].loc["step"],
    "rebuilding the vectors": relative["fusion"].loc["rebuild"],
    "a request with the sparse fusion": relative["fusion"].loc["request"],
    "a request with the sparse feed-forward": relative["feed-forward"].loc["request"],
}
longer = "{} takes {times:.2f} times as long ({low:.2f} to {high:.2f})"
Markdown(
    f"Against the dense twin, {', '.join(longer.format(name, **times) for name, times in work.items())}. With kept "
    "vectors a request is the same work for the sparse fusion as for its twin, so what its number differs from 1 is "
    "the noise of these times. Against the encoder without a mixture, the sparse fusion takes "
    f"{plain['rebuild']:.1f} times as long to rebuild the vectors. These are times of one machine while it built this "
    "book, and on a busy one they move."
)

# %% [markdown]
# Whole epochs were measured on a quiet machine ([cost and scaling](cost)).
#
# *Change this and rerun:* with `experts_per_row = 8` every row goes to all eight experts; look at the columns
# `parameters` and `active` of the first table, and at the bars of the last figure.
#
# ## Exercises
#
# Guess first, then open the cell below the question: it computes the answer.
#
# **1. Twice the experts.** Double $E$ and leave $k$ as it is. By how much do the parameters of the encoder with the
# sparse fusion grow, and by how much those that one item uses? And what if $E$ stays and $k = E$?

# %% tags=["hide-cell"]
cases = {(experts, experts_per_row), (2 * experts, experts_per_row), (experts, experts)}
rows = []
for e, per_row in sorted(cases):
    change = {"experts": e, "experts_per_row": per_row}
    model = Recommender.for_dataset(moe.model_copy(update=change), dataset)
    count = capacity.parameter_counts(model)
    rows.append((e, per_row, *map("{:,}".format, count), count.active / count.total))
columns = ["E", "k", *count._fields, "active share"]
figures.table(pd.DataFrame(rows, columns=columns), f"Sparse fusion of width {width}")

# %% [markdown]
# :::{dropdown} Why
# An expert more costs its whole size in memory, but an item still goes to $k$ of them; all that it uses more is one row
# of the router. With $k = E$ nothing is idle, and the mixture is an MLP as wide as all experts together, with a gate.
# :::
#
# **2. How many experts is it really?** If one expert gets all the work, the others are there for nothing. Count the
# experts of each layer by $1 / \sum_e \ell_e^2$, with $\ell_e$ the load: that is $E$ if all get the same, and 1 if one
# gets everything.

# %% tags=["hide-cell"]
uses = load.groupby("layer", sort=False)["share"].agg(
    **{"effective experts": lambda f: 1 / (f**2).sum(), "busiest": "max"}
)
figures.table(uses, f"Of {experts} experts; an even share would be {1 / experts:.1%}")

# %% [markdown]
# :::{dropdown} Why
# The balance loss pays a router for an even load over *all* rows, not for sending each row everywhere. So a map of
# kinds may be uneven while the load is nearly even: kinds share the experts out among themselves.
# :::
#
# **3. When vectors cannot be kept.** A fusion is nearly free per request because a rebuild serves many requests. How
# many, until the rebuild is less than a hundredth of the cost? And how much longer would a request take if it had to
# rebuild the vectors?

# %% tags=["hide-cell"]
sparse = cost.loc["sparse fusion"]
many = 99 * sparse["rebuild"] / sparse["request"]
each = 1 + sparse["rebuild"] / sparse["request"]
Markdown(
    f"For {catalogue:,} items, on this machine, a rebuild is less than a hundredth of the "
    f"cost after {many:,.0f} requests; a request with a rebuild takes {each:.1f} times as long."
)

# %% [markdown]
# :::{dropdown} Why
# The “nearly unchanged inference cost” of the paper {cite}`huang2026rodpo` would follow from vectors that depend
# neither on the user nor on the moment; where its experts sit is not known to us. Prices, stock or a context among the
# features break that, and so does a catalogue that changes faster than requests come in.
# :::
#
# ## Takeaways
#
# - Sparse means that unrouted rows are not computed; a test counts them.
# - Equal active parameters is the fair comparison, and it is what the dense twin is for.
# - “Nearly unchanged inference cost” {cite}`huang2026rodpo` holds for a fusion whose results are kept, not for a
#   mixture that runs with every request. Which of the two the paper has is not known to us. [Cost and scaling](cost)
#   has both on a GPU.
#
# **Next:** [the results](results).
