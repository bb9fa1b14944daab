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
# # Why: false negatives in real data
#
# **The question.** The paper says why a pool should beat the hardest item: fewer of its pushes land on what people
# want. Is that so on real purchases, and is that why?
#
# *Reading: 9 minutes. Running: under a minute. Before this: [negative selection](selection), [results](results).*

# %% tags=["parameters", "hide-input"]
profile = "smoke"
ledger_folder = None  # the project's own, data/results

# %% tags=["hide-input"]
import plotly.graph_objects as go
from companion.evidence import comparison, interventions
from companion.evidence.grid import Grid
from companion.evidence.ledger import Ledger
from companion.evidence.plan import GRID
from companion.findings import changes, negatives
from companion.findings.sentences import listed, render
from companion.site import figures
from companion.site.pages import record
from IPython.display import Markdown, display

from rodpo_lite.evaluation.statistics import Interval, signed

figures.setup()
ledger, grid = Ledger.open(ledger_folder), Grid.read(GRID)
hidden = "toys-planted"  # a tenth of the training purchases

# %% tags=["hide-input"]
Markdown("**The answer.**\n\n" + render("because", **negatives.because(grid, ledger)))

# %% [markdown]
# ```{margin}
# All numbers are read from the runs on record: tuned on validation, several training seeds, 95 % intervals. A review
# stands for a purchase.
# ```
#
# In the synthetic world the truth is known. Here three stand-ins are used: purchases that were hidden on purpose, the
# validation item, and later training purchases.
#
# ## Hide what is known, and see who hits it
#
# A tenth of all training purchases of Toys is hidden before anything is trained (`rodpo data plant`). At every position
# before its own time, a hidden purchase is a false negative beyond doubt: the user was going to buy that item, and
# nobody told the model. References are trained on the rest, and every selector aligns them, with the settings that were
# chosen for it on Toys. While it trains, each rejected item is compared with what was hidden.

# %% tags=["hide-input"]
means = negatives.hits(grid, ledger, hidden)
hits, shares = means["hidden"], means["on_hidden"]
for kind, values in (("hits", hits), ("push", shares)):
    for name, value in values.items():
        record(f"planted_{kind}_per_10000_{name}", value)
often = negatives.hits_and_shares(grid, ledger, hidden)
fig = figures.forest(often, "mean", "row", "what", rows=hits.index[::-1])
fig.update_xaxes(title="per 10,000", type="log", dtick=1)
fig.update_layout(height=130 + 26 * len(hits))
figures.show(
    fig,
    caption="Hidden purchases among the rejected items, and in what is pushed down; intervals over seeds. The scale is "
    "logarithmic.",
    alt=f"A dot plot of selectors, from {hits.index[-1]} with {hits.max():.0f} per 10,000 down to {hits.index[0]} with "
    f"{hits.min():.1f}.",
    data=often,
)

# %% tags=["hide-input"]
record("planted_hits_hard_over_topk", hits["hard"] / hits["topk"])
record("planted_push_hard_over_topk", shares["hard"] / shares["topk"])
Markdown(render("hits", **means))

# %% [markdown]
# ## Do they lose by it?
#
# ```{margin}
# Each score is compared with that of the continued cross-entropy run, and the difference with that of the five
# candidates above and the five below.
# ```
#
# If wrong pushes matter, hidden purchases should sink under `hard`, more than under a selector that rarely hits them.
# They also *rise* in training, because similar users pull them up, so the yardstick is the run without any rejection:
# below zero, a false negative sank among its equals by what was rejected. The validation item, which may be rejected
# like any other, is asked the same.

# %% tags=["hide-input"]
drifts = negatives.drifts(grid, ledger, hidden)
out = negatives.out_of_scale(drifts.loc["hidden purchases", "mean"].reindex(hits.index))
inside = drifts.drop(index=out, level="row")
fig = figures.forest(inside.reset_index(), "mean", "row", "of", rows=hits.index[::-1])
fig.add_vline(x=0, line_dash="dot", line_color=figures.GREY)
low, high = inside["low"].min(), inside["high"].max()
reach = (high - low) / 4
fig.update_xaxes(title="score against its neighbours, logits", range=[low - reach, high + reach])
fig.update_yaxes(range=[-0.5, len(hits) - 0.5])
fig = fig.update_layout(height=130 + 26 * len(hits))

# %% tags=["hide-input"]
for name in out:
    far = drifts.xs(name, level="row")["mean"]
    up = far.mean() > 0
    text = " and ".join(signed(value, 2) for value in far)
    side = {"x": int(up), "xref": "x domain", "xanchor": "right" if up else "left"}
    fig.add_annotation(y=name, text=f"{text} →" if up else f"← {text}", showarrow=False, **side)
flat = f"; {listed(f'`{name}`' for name in out)}, out where the arrows say, would flatten the rest." if out else "."
drift = negatives.drift(grid, ledger, hidden)
record("intervals_below_zero", len(drift["below"]))
record("intervals_above_zero", drift["above"])
for label, value in drift["together"].items():
    record(f"correlation_of_hits_and_drift_{label.split()[0]}", value)

# %% tags=["hide-input"]
figures.show(
    fig,
    caption="How far false negatives moved against candidates beside them, relative to continued cross-entropy, at "
    f"each run's best epoch; intervals over seeds. The rows are in the order of hits, most at the top{flat}",
    alt=f"Points with intervals for each selector and two kinds of false negatives; {len(drift['below'])} of "
    f"{len(drifts)} intervals lie below zero and {drift['above']} above.",
    data=drifts.reset_index(),
)

# %% tags=["hide-input"]
Markdown(render("drift", **drift))

# %% [markdown]
# ```{margin}
# Declared in `workflow/interventions.yaml` before the runs; what one question compares starts from the same references,
# which were trained once more for the later two, so that the lead differs a little; each row keeps the settings that
# were chosen for it. What nobody hid, such as the validation item or what a user would have liked, may still be
# rejected.
# ```
#
# ## Change the cause
#
# Selectors differ in more than in what they hit ([every row](rows) has what each does to the ranking). So one thing is
# changed at a time: nothing that was hidden can be rejected; popular items are not the hardest, because candidates rank
# by $s-\log n$; or the loss expects wrong labels and the hardest item stays. How much of the pool's lead over the
# hardest item goes?

# %% tags=["hide-input"]
answers = interventions.answers(grid, ledger, negatives.QUESTIONS)
closed = interventions.closed(answers)
figures.show_changes(
    closed,
    closed["what"].unique(),
    value="closed %",
    series="protocol",
    slide="dataset",
    title="of the pool's lead that goes, %",
    caption="How much of the lead of `topk` over `hard` in test NDCG@5 goes when one thing is changed: at 100 all of "
    "it, below 0 it grows. Intervals over users and seeds.",
    alt="Points with intervals for each change, in both protocols, between nothing and all of the lead.",
    hidden=[],
)
for name, value in interventions.metrics(answers).items():
    record(name, value)

# %% tags=["hide-input"]
said = {name: render("intervention", **answer) for name, answer in answers.items()}
whom = negatives.for_whom_popular(grid, ledger, hidden)
said["popular"] += "\n\n" + render("for_whom_popular", changes=whom)
said["loss"] += "\n\n" + render("believes", **negatives.believed(grid, ledger, hidden))
Markdown("\n\n".join(said.values()))

# %% tags=["hide-cell"]
if len(whom):
    texts = [Interval(*row).text(1) for row in whom[["change %", "low", "high"]].itertuples(index=False)]
    by_users = whom.assign(change=texts).pivot(index=["what", "protocol"], columns="users", values="change")
    by_users = by_users[["popular", "others", "all"]].reset_index()
    figures.table(by_users, "Change of test NDCG@5 by the popularity of the next item")

# %% [markdown]
# ## The more is hidden
#
# If false negatives are why a pool beats the hardest item, hiding more of them should widen the gap. Settings stay
# those of Toys, and the runs are those of the first section.

# %% tags=["hide-input"]
gaps = negatives.gaps(grid, ledger, hidden)
fig = go.Figure()
for before, part in gaps.groupby("before"):
    fig.add_scatter(
        x=part["hidden, %"], y=part["change %"], mode="lines+markers", name=f"topk over {before}",
        **figures.style(before), error_y=figures.whiskers(part["change %"], part["low"], part["high"]),
    )
fig.add_hline(y=0, line_dash="dot", line_color=figures.GREY)
fig.update_xaxes(title="training purchases hidden, %")
fig.update_yaxes(title="change of test NDCG@5, %")
over_hard = gaps[gaps["before"] == "hard"]

# %% tags=["hide-input"]
if gaps["dataset"].nunique() > 1:
    figures.show(
        fig,
        caption="What top-K gains over the hardest item and over continued cross-entropy, by how much of Toys is "
        "hidden; all items ranked, intervals over users and seeds.",
        alt="Two curves with intervals over the hidden share, around zero.",
        data=gaps,
    )
    record("gap_over_hard_where_most_is_hidden", over_hard["change %"].iloc[-1])
Markdown(render("more_hidden", **negatives.as_more_is_hidden(over_hard, comparison.mechanism(grid, ledger))))

# %% [markdown]
# ## Learning not to repeat
#
# In these data no user reviews an item twice. Where the history stays in the ranking, a selector that picks what the
# user *already has* therefore teaches “do not repeat”, and gains without learning anything about taste. So the runs
# were repeated, with the same settings, under three rules of what is never rejected: nothing (rows ending in `_all`),
# the user's items so far (`_past`), all training items (the default). The first against the second is not repeating;
# the second against the third is future purchases as false negatives.

# %% tags=["hide-input"]
allowed, fig, groups = negatives.exclusions(grid, ledger), go.Figure(), {}
for (dataset, name, protocol), part in allowed.groupby(["dataset", "row", "protocol"], sort=False):
    look = figures.style(name)
    look["marker"]["symbol"] += "-open" if protocol == "history dropped" else ""
    groups.setdefault(dataset.capitalize(), []).append(len(fig.data))
    fig.add_scatter(
        x=part["step"], y=part["change %"], mode="markers", name=f"{name}, {protocol}", **look,
        error_y=figures.whiskers(part["change %"], part["low"], part["high"]),
    )
fig.add_hline(y=0, line_dash="dot", line_color=figures.GREY)
fig.update_layout(scattermode="group", height=400)
fig = fig.update_yaxes(title="change of test NDCG@5, %")

# %% tags=["hide-input"]
if groups:
    figures.slider(fig, groups, next(iter(groups)), "Dataset: ")
    figures.show(
        fig,
        caption="What it changes to allow the history, and to allow later training purchases, as rejected items; "
        "intervals over users and seeds. Open marks: history dropped from the ranking.",
        alt="Two groups of points with intervals: the effect of allowing the past and of allowing the future, for "
        "three selectors, with and without history in the ranking.",
        data=allowed,
    )
else:
    display(Markdown("*These runs are not on record yet.*"))

# %% tags=["hide-input"]
for row in changes.ranked(allowed).to_dict("records"):
    if row["row"] != "uniform":
        record(f"{row['dataset']}_{row['row']}_{row['step'].split()[0]}_all_items_percent", row["change %"])
Markdown(render("repeating", **negatives.repeating(grid, ledger, allowed)))

# %% [markdown]
# ## Takeaways
#
# - On real purchases, too, the hardest item is a false negative more often than a random one of the top $K$ is; known
#   false negatives are a small share of all pushes for either.
# - So few selectors, some of them against the trend, cannot show that wrong pushes *cause* worse rankings. Two things
#   can: *the more is hidden* changes their number, *change the cause* takes the known ones away and leaves the rest as
#   it was.
# - Whether not repeating counts depends on what the protocol ranks, so a number without that label cannot be compared.
#
# ## Exercises
#
# **1. How much more often than by chance?** A random item of the catalogue is a hidden purchase about as often as
# hidden purchases are among all items. How many times more often does each selector hit than that? Is the order that of
# hardness?

# %% tags=["hide-cell"]
over = (hits / hits["uniform"]).rename("times as often as uniform")
figures.table(over.to_frame(), "Hits on hidden purchases, relative to a uniform draw")

# %% [markdown]
# :::{dropdown} Why
# The model has learnt taste, so what it ranks high is what people go on to buy: the better the reference, the more
# false negatives stand at its top. Every selector that follows the scores, of the policy or of the reference, pays for
# hardness with hits.
# :::
#
# **2. Does hardness cost pushes or hits?** A selector can hit often and push little: under DPO the push is
# $\beta\sigma(-\beta h)$, which fades once the margin is won. Compare hits per draw with the share of the push. Where
# do the two differ most?

# %% tags=["hide-cell"]
fade = (shares / hits).rename("push share over hit share")
figures.table(fade.to_frame(), "Above 1: hidden purchases are pushed harder than the average rejected item")

# %% [markdown]
# :::{dropdown} Why
# $h$ compares with the reference: what is pushed hardest has risen since then, or its positive has fallen behind. Under
# `uniform` the average rejected item was won long ago, while similar users pull a hidden purchase up, so it is pushed
# harder than most. Within a pool all candidates stand close to each other, and hits and pushes differ less.
# :::
#
# **Next:** [the claims scoreboard](scoreboard).
