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
# # Data preparation
#
# **The question.** What does a log of clicks show of what people want?
#
# **The answer.** One item at a time. What stood beside it and was wanted as well is never written down, and most of
# what people want is of that kind: the *false negatives* that this book is about.
#
# *Reading: 8 minutes. Running: 15 seconds. Before this: [the overview](../index).* The paper works on Amazon reviews;
# this page runs on a **synthetic world** in the same format, because there the truth is known. Point `data` at a folder
# of your own to see yours.

# %% tags=["parameters", "hide-input"]
profile = "smoke"
data = ""  # a folder, or a name in RODPO_DATA; empty makes a fresh synthetic world
seed = 0

# %% tags=["hide-input"]
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from companion.demonstrations import shop
from companion.evidence.grid import Grid
from companion.evidence.ledger import Ledger
from companion.evidence.plan import GRID
from companion.findings import runs
from companion.site import figures
from companion.site.pages import record
from IPython.display import Markdown

from rodpo_lite.data.batches import PackedSequences
from rodpo_lite.data.schema import read_dataset
from rodpo_lite.data.split import leave_one_out
from rodpo_lite.data.synthetic import Oracle, WorldSizes, open_world, synthesise

figures.setup()
dataset, folder = open_world(data, seed)

# %% [markdown]
# ## One user in front of a shop window
#
# In the synthetic world a coin is tossed once for each user, item and time: relevant or not. That is the truth, and it
# is kept. At each step a user sees a slate of items and takes one.

# %% tags=["hide-input"]
oracle = Oracle.of(dataset, folder) if (folder / "oracle").is_dir() else None
unwanted = {"marker": {"color": figures.GREY, "symbol": "line-ew-open"}}
looks = {shop.TAKEN: figures.style(0), shop.WANTED: figures.style(1), shop.UNWANTED: unwanted}
if oracle:
    window = shop.window(dataset, oracle, user=0)
    fig = go.Figure()
    for what, look in looks.items():
        part = window[window["what"] == what]
        fig.add_scatter(x=part["step"], y=part["place"], mode="markers", name=what, text=part["item"], **look)
    fig.update_xaxes(title="step", dtick=1, showgrid=False)
    fig.update_yaxes(title="place on the slate", autorange="reversed", showgrid=False)
    fig.update_layout(height=560)
    counts = window["what"].value_counts()
    figures.show(
        fig,
        caption=f"All that one user saw in {window['step'].max()} steps, a column each. The log keeps "
        f"{counts[shop.TAKEN]} clicks. {counts[shop.WANTED]} times something else on the slate was wanted, too, and "
        "nothing in the log tells it from the rest.",
        alt="Columns of marks, one a step: a single item taken in each, a few that were wanted as well, and many that "
        "were not.",
        data=window,
    )

# %% [markdown]
# A selector of negatives cannot tell a wanted item that was not taken from one that the user would reject: it is a
# **false negative**. The slate is not the half of it, for most of what is wanted never stood on one:

# %% tags=["hide-input"]
owner = np.repeat(np.arange(dataset.n_users), dataset.lengths)
if oracle:
    relevant = oracle.relevance.any(1)
    clicked = np.zeros_like(relevant)
    clicked[owner, dataset.items] = True
    hidden = (relevant & ~clicked).sum() / relevant.sum()
    truth = {
        "relevant items per user": relevant.sum(1).mean(),
        "clicked per user": clicked.sum(1).mean(),
        "share of the relevant never clicked": hidden,
    }
    truth = pd.DataFrame({"what": truth.keys(), "value": truth.values()})
    figures.table(truth, "The truth behind the log")
    record("never_clicked", hidden)

# %% [markdown]
# ## What is in the folder
#
# A dataset is three kinds of file: interactions (who, what, in which order), items (with a title where there is one),
# and one row of features per item and *modality*. Every file has a checksum, and reading verifies it. An item may lack
# its picture, and a dataset may have no pictures at all: both are normal.

# %%
counts = {
    "users": dataset.n_users,
    "items": dataset.n_items,
    "interactions": len(dataset.items),
    "interactions per user": dataset.lengths.mean(),
}
for modality, features in dataset.features.items():
    name = f"items with {modality} ({features.shape[1]} numbers)"
    counts[name] = dataset.present[modality].sum()
rows = [(what, f"{round(number, 1):,}") for what, number in counts.items()]
figures.table(pd.DataFrame(rows, columns=["what", "how many"]), f"The dataset {dataset.name}")
record("n_interactions", len(dataset.items))

# %% [markdown]
# The runs that this book reports are on Amazon reviews, in the same format. Each
# user's last item is kept for the test, and the one before it for validation.

# %% tags=["hide-input"]
sizes = runs.sizes(Grid.read(GRID), Ledger.open())
figures.table(sizes.map("{:,}".format), "The datasets on record")

# %% [markdown]
# ## A few items take much of the attention
#
# Popularity is skewed, with a long tail, and most histories are short. Both matter later: a random negative is nearly
# always an easy one to tell from the right item, and the short histories decide what a batch costs.

# %% tags=["hide-input"]
popularity = np.sort(np.bincount(dataset.items, minlength=dataset.n_items))[::-1]
ranks = np.unique(np.geomspace(1, dataset.n_items, 120).astype(int))
head = popularity[: dataset.n_items // 10].sum() / popularity.sum()
fig = go.Figure(go.Scatter(x=ranks, y=popularity[ranks - 1], mode="lines", name="items"))
fig.update_xaxes(type="log", dtick=1, title="popularity rank of the item")
fig.update_yaxes(type="log", dtick=1, title="interactions", range=[0, np.log10(popularity[0]) + 0.1])
figures.show(
    fig,
    caption="Interactions of each item, most popular first, both axes logarithmic. The most popular tenth of the items "
    f"takes {head:.0%} of all interactions.",
    alt=f"A curve that falls from {popularity[0]} interactions for the most popular item to {popularity[-1]} for the "
    "least.",
    data=pd.DataFrame({"rank": ranks, "interactions": popularity[ranks - 1]}),
)
record("head_share", head)

# %% [markdown]
# ## Leave one out
#
# The last item of every user is the test target, the one before it the validation target, and everything earlier is
# for training. Nothing is sampled: a target is later ranked against the *whole* catalogue.

# %%
split, user = leave_one_out(dataset), int(dataset.lengths.argmin())
rows = slice(dataset.offsets[user], dataset.offsets[user + 1])
parts = ["train"] * (dataset.lengths[user] - 2) + ["validation", "test"]
titles = [dataset.titles[item] for item in dataset.items[rows]]
history = pd.DataFrame({"position": range(len(titles)), "item": titles, "part": parts})
figures.table(history, f"User {user}, oldest first")

# %% [markdown]
# ## Packed, not padded
#
# Most code fills every history up to 50 positions. Here the histories of a batch stand back to back, and only real
# positions are computed. Of $n$ interactions training predicts $n - 3$: the first has nothing before it, and the last
# two are held out.

# %% tags=["hide-input"]
sequences = PackedSequences(dataset.items, split.start, split.train_end - 1, max_length=50)
real = sequences.n_positions / (50 * dataset.n_users)
lengths = np.bincount(np.minimum(dataset.lengths, 50))
table = pd.DataFrame({"interactions": np.arange(len(lengths)), "users": lengths})
fig = go.Figure(go.Bar(x=table["interactions"], y=lengths, name="users"))
fig.update_xaxes(title="interactions of a user")
fig.update_yaxes(title="users")
figures.show(
    fig,
    caption=f"How long histories are. Padded to 50, only {real:.1%} of the positions would be real predictions.",
    alt=f"A bar chart of history lengths with its highest bar at {lengths.argmax()} interactions and a long tail.",
    data=table.query("users > 0"),
)
record("real_positions", real)

# %% [markdown]
# ## Ties in time
#
# The Amazon logs know the day of a review, not the minute, and the synthetic world copies that. Where two neighbouring
# interactions share a day, their order is arbitrary, and so is which of them becomes the target.

# %%
day = dataset.timestamps // 86_400
known = not np.isnan(day).all()
tied = (np.diff(day) == 0)[np.diff(owner) == 0].mean()
Markdown(
    f"Of the neighbouring interactions of a user, **{tied:.1%}** share a day." if known else "Not known: no timestamps."
)

# %% [markdown]
# *Change this and rerun:* another `seed` makes another world; look at which shares on this page hardly move, although
# every title, user and click is a different one.
#
# ## Exercises
#
# Guess first, then open the cell below the question: it computes the answer.
#
# **1. A larger shop window.** At each step a user sees a slate of items and takes one of them. Suppose that the slate
# were five times as large: would fewer of the relevant items stay without a click? And if histories were twice as long
# instead?

# %% tags=["hide-cell"]
small, rows = WorldSizes(users=500), []
wide = replace(small, slate=5 * small.slate)
long = replace(small, mean_length=2 * small.mean_length)
with tempfile.TemporaryDirectory() as holder:
    for sizes in (small, wide, long):
        place = synthesise(Path(holder) / str(len(rows)), seed, sizes)
        made = read_dataset(place)
        wanted = Oracle.of(made, place).relevance.any(1)
        taken = np.zeros_like(wanted)
        taken[np.repeat(np.arange(made.n_users), made.lengths), made.items] = True
        never = 1 - (wanted & taken).sum() / wanted.sum()
        rows.append((sizes.slate, made.lengths.mean(), f"{never:.1%}"))
columns = ["slate", "interactions per user", "relevant, never clicked"]
figures.table(pd.DataFrame(rows, columns=columns), f"Worlds of {small.users} users")

# %% [markdown]
# :::{dropdown} Why
# A log keeps one item per step, however many stood on the slate. What can be observed is bounded by the length of the
# history, and a larger slate shows hardly more of what is relevant.
# :::
#
# **2. The safest draw.** Nothing is simpler than to reject a random item that the user never clicked. In the synthetic
# world, how often is that something that the user wants *at some time*? (Later chapters ask what is wanted *at the
# moment of the draw*, which is less.) After how many draws for one user is it more likely than not that at least one
# was?

# %% tags=["hide-cell"]
if oracle:
    wrong = (relevant & ~clicked).sum(1) / (~clicked).sum(1)
    draws = np.ceil(np.log(0.5) / np.log1p(-wrong))
    answer = (
        f"One draw in {1 / wrong.mean():.1f} is wanted at some time ({wrong.mean():.1%}), "
        f"and for the median user {np.median(draws):.0f} draws make one likely."
    )
else:
    answer = f"Not known: {dataset.name} has no oracle."
Markdown(answer)

# %% [markdown]
# :::{dropdown} Why
# A user whose share of false negatives is $f$ is spared by $n$ draws with probability $(1-f)^n$, which falls below one
# half at $n = \log \tfrac12 / \log(1-f)$. Training draws at every position of every epoch, so even a random selector
# meets false negatives all the time. What a selector can change is how often, and how hard they are then pushed.
# :::
#
# **3. A target by chance.** The share above counts *pairs*. Suppose that the order within every day were drawn anew:
# for which share of the users would another item become the test target? More than the share of tied pairs, or less?

# %% tags=["hide-cell"]
last_day = day[dataset.offsets[1:] - 1]
choices = np.bincount(owner, weights=day == last_day[owner]).clip(1)
Markdown(
    f"{(choices > 1).mean():.1%} of the users have several items on their last day, "
    f"and {1 - (1 / choices).mean():.1%} would get another target."
    if known
    else "Not known: no timestamps."
)

# %% [markdown]
# :::{dropdown} Why
# Of $n$ items on the last day each is as likely to come last, so the target stays with probability $1/n$. A metric on
# such users asks which of several items of one day the log happened to write last, and no model can know that.
# :::
#
# ## Takeaways
#
# - Histories are short and popularity is skewed; packing removes the work on padding.
# - Two items per user are held out by position, the last for the test and the one before for validation, and each is
#   ranked against everything.
# - Most relevant items are never observed. Treating “not clicked” as “not wanted” is wrong exactly where the
#   model is best, and [gradients under false negatives](gradients) shows what that does.
#
# **Next:** [the DPO objective](objective).
