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
# # Your own data
#
# **The question.** You have a table of who took what, and when. Would alignment help, and what would it push down that
# your users want?
#
# *Reading: 5 minutes. Running: about a minute on the example. Before this:
# [gradients under false negatives](gradients) helps, and is not needed to run it.*

# %% tags=["parameters", "hide-input"]
profile = "smoke"
interactions = ""  # your CSV of users, items and times; empty takes the example
items = ""  # optional: a CSV of items with texts
image_folder = ""  # optional: a folder of images called ID.jpg, .png or .webp
user_column = ""  # the names of columns, and the delimiter, where they are not found
item_column = ""
time_column = ""
delimiter = ""
seed = 0
epochs = 15  # of the reference
width = 32
k = 20
beta = 0.5

# %% tags=["hide-input"]
import tempfile
from pathlib import Path

import pandas as pd
import plotly.graph_objects as go
from companion.evidence.grid import Grid
from companion.evidence.ledger import Ledger
from companion.evidence.plan import GRID
from companion.findings import power
from companion.findings.examples import write_example
from companion.site import figures, repetitions
from companion.site.pages import record
from IPython.display import Markdown

from rodpo_lite.config import AlignmentConfig, ReferenceConfig
from rodpo_lite.data.importers.dataset import import_dataset
from rodpo_lite.data.importers.request import Request
from rodpo_lite.data.importers.tables import preview
from rodpo_lite.data.schema import read_dataset
from rodpo_lite.evaluation import metrics
from rodpo_lite.evaluation.recommend import recommend
from rodpo_lite.evaluation.statistics import user_bootstrap
from rodpo_lite.losses.preference import LossConfig
from rodpo_lite.mechanism import rank_profiles
from rodpo_lite.mechanism.relevance import future_relevance
from rodpo_lite.sampling.selectors import NegativesConfig
from rodpo_lite.settings import build
from rodpo_lite.training import results, runs

figures.setup()
holder = tempfile.TemporaryDirectory()
space = Path(holder.name)

# %% [markdown]
# ## A table of who took what, and when
#
# One row for each time that somebody took something: a user, an item, and a time; the names of the columns and the
# delimiter are found. A second table may say what the items are. Without a table of yours, the page writes an example.

# %%
if not interactions:
    interactions, items = write_example(space, seed)
given = {
    "user": str(user_column), "item": str(item_column), "time": str(time_column), "delimiter": str(delimiter),
    "items": items and Path(str(items)), "image_folder": image_folder and Path(str(image_folder)),
}  # fmt: skip
request = Request(Path(str(interactions)), **{name: value for name, value in given.items() if value})
figures.table(preview(request), "The first rows of the interactions")

# %% [markdown]
# ## Import
#
# Ids become numbers, and are kept beside them; rows are put in order of time, users with fewer than three interactions
# are left out, and texts become vectors by TF-IDF and a truncated SVD, offline. From a terminal the same is
#
# ```bash
# rodpo data import csv clicks.csv --items items.csv --out data/mine
# ```
#
# `rodpo data import --help` lists the names of columns that are found, and what else it reads: RecBole's atomic files,
# and Amazon's reviews of 2014, 2018 and 2023. Of a table of items every column with words counts; `--text title,brand`
# says which do. `--image-folder images` adds thumbnails of images called `ID.jpg`, and `--text-model` and
# `--image-model` take encoders of the optional package sentence-transformers (CLIP for images) in place of TF-IDF and
# thumbnails. `rodpo data fetch beauty --out data/amazon/originals` downloads such reviews from where they are
# published, and says how to import them.

# %%
left_out = import_dataset("csv", request, space / "mine")
dataset = read_dataset(space / "mine")
Markdown(
    f"{dataset.n_users:,} users, {dataset.n_items:,} items, {len(dataset.items):,} interactions; item features: "
    f"{', '.join(dataset.features) or 'none'}; {'; '.join(left_out) or 'nothing was left out'}."
)

# %% [markdown]
# ## A reference
#
# Stage 1 learns to predict the next item. It has to be finished before anything is aligned, so its learning rate decays
# to zero.

# %%
settings = {
    "seed": seed,
    "encoder": {"width": width},
    "training": {"epochs": epochs, "patience": epochs, "precision": "fp32"},
}
loss = build(LossConfig, {"beta": beta})
selectors = [build(NegativesConfig, {"name": name, "k": k}) for name in ("hard", "topk", "uniform")]
reference = runs.train(dataset, build(ReferenceConfig, settings), space / "reference")
record("reference_valid_ndcg5", reference["valid"]["ndcg@5"])

# %% [markdown]
# ## What would be rejected
#
# In your data nobody says which items are false negatives, but some can be seen: what a user takes *later* is at an
# earlier position an item that they want and do not have yet. Here is where the reference ranks such items. The true
# share is higher, because what people want and never take is not in any table.

# %% tags=["hide-input"]
model, later = runs.load(space / "reference", dataset), future_relevance(dataset)
length = model.encoder.max_length
ranked = rank_profiles.rank_profile(model.model, model.model, dataset, later, length, exclude="past", seed=seed)
share = 100 * ranked.false_negative.mean(0)[:200]
table = pd.DataFrame({"rank": range(1, len(share) + 1), "taken later, %": share})
curve = {"x": table["rank"], "y": share, "mode": "lines", "name": "taken later", "line_color": figures.VERMILION}
fig = go.Figure(go.Scatter(**curve))
fig.update_xaxes(title="rank in the reference", type="log", dtick=1)
fig.update_yaxes(title="taken later, % of positions", rangemode="tozero")
figures.show(
    fig,
    caption="How often the item at a rank is one that the user takes later, over training positions.",
    alt=f"A falling curve, from {share[0]:.1f} % at rank 1 to {share[-1]:.2f} % at rank {len(share)}.",
    data=table,
)
record("taken_later_at_rank_1", share[0] / 100)

# %% tags=["hide-input"]
rows = []
for selector in selectors:
    wrong, right = (part.mean() for part in ranked.expected(selector, loss))
    rows.append((selector.name, 100 * wrong / (wrong + right)))
report = pd.DataFrame(rows, columns=["selector", "taken later, % of the push"])
figures.table(
    report,
    "Of the expected push at the start of alignment, the part that lands on items taken later; "
    f"K = {k}; policy and reference are still the same, so β plays no part",
)
record("erroneous_share_hard", report["taken later, % of the push"][0] / 100)
record("erroneous_share_topk", report["taken later, % of the push"][1] / 100)

# %% [markdown]
# ## Align
#
# `none` trains on with cross-entropy alone, which is what any preference has to beat. As above, and as in a system that
# runs, what a user takes later is not known and may be rejected (`negatives.exclude=past`).

# %%
strategies = ["none", "hard", "topk"]
for name in strategies:
    stage = {
        "seed": seed,
        "negatives": {"name": name, "k": k, "exclude": "past"},
        "loss": {"beta": beta},
        "training": {"epochs": 4, "precision": "fp32"},
    }
    runs.align(dataset, space / "reference", build(AlignmentConfig, stage), space / name)
evaluated = {name: results.evaluate(dataset, space / name) for name in ["reference", *strategies]}

# %% tags=["hide-input"]
ranks = {name: pd.read_parquet(space / name / "ranks.parquet")["rank"].to_numpy() for name in evaluated}
ndcg = {name: metrics.ndcg(rank) for name, rank in ranks.items()}
table = {
    "NDCG@5": {name: metric["unmasked"]["ndcg@5"] for name, metric in evaluated.items()},
    "NDCG@5, history dropped": {name: metric["masked"]["ndcg@5"] for name, metric in evaluated.items()},
}
for base, label in (("reference", "the reference"), ("none", "`none`")):
    others = [name for name in strategies if name != base]
    table[f"NDCG@5 against {label}"] = {name: user_bootstrap(ndcg[base], ndcg[name]).text(1) for name in others}
figures.table(
    pd.DataFrame(table).loc[list(evaluated)].fillna("–").rename_axis("strategy"),
    "On the last item of each user; changes with all items ranked, 95 % intervals over users (none for few hits)",
)
for name in strategies:
    record(f"test_ndcg5_{name}", evaluated[name]["unmasked"]["ndcg@5"])

# %% [markdown]
# ## Would you see a gain?
#
# Set the number of users to yours. What is drawn here are recorded runs on Amazon's toys, so that your own users may be
# steadier, or less so; the square root holds for all.

# %% tags=["hide-input"]
repetitions.show(*power.recorded(Grid.read(GRID), Ledger.open(None)))

# %% [markdown]
# ## Recommend
#
# For the first user, after the whole history, without what the user has already:

# %%
shown = recommend(runs.load(space / "topk", dataset).model, dataset, user=0, top=5)
figures.table(shown, f"What {dataset.user_ids[0]} would be shown")

# %% [markdown]
# ## From a terminal
#
# One command goes from a log to a decision. It trains five seeds of each model, with the settings that the searches of
# this book chose for `topk`, and writes one HTML file that begins with *keep*, *discard* or *too small to say*.
# `--quick` is a first look, which decides nothing.
#
# ```bash
# rodpo report clicks.csv --out report.html
# ```
#
# The steps of this page, one by one, with a pool of one item in twenty where the catalogue has fewer than 4,000 items;
# every command explains itself with `--help`, and an interrupted one goes on with `--resume`. For comparison, align and
# evaluate a second run with `negatives.name=none`.
#
# ```bash
# rodpo data import csv clicks.csv --items items.csv --out data/mine
# rodpo train     --data data/mine --out runs/mine
# rodpo align     --data data/mine --reference runs/mine --out runs/mine-topk -o negatives.name=topk \
#     -o negatives.k=200 -o loss.beta=2 -o training.learning_rate=3.7e-4
# rodpo evaluate  --data data/mine --run runs/mine-topk
# rodpo recommend --data data/mine --run runs/mine-topk --user c00000
# ```
#
# This page is a report, too: papermill makes it for a table of yours. Give full paths, and `-p user_column client` and
# the like where the import does not find a column.
#
# ```bash
# export PLOTLY_RENDERER=notebook
# .venv/bin/jupytext --to ipynb notebooks/yourdata.py
# .venv/bin/papermill notebooks/yourdata.ipynb report.ipynb -p interactions $PWD/clicks.csv -p items $PWD/items.csv
# .venv/bin/jupyter nbconvert --to html --no-input report.ipynb    # one file to pass on, with its figures
# ```
#
# ## Takeaways
#
# - What users take later is a lower bound on what would be pushed down by mistake, and any log of interactions contains
#   it.
# - Compare an aligned model with `none`, not with the reference alone.
# - One seed on one table shows that it runs. For a decision, repeat it with several seeds, and tune each strategy
#   alike.
#
# ## Exercises
#
# **1. Where do they stand?** Where in the pool are the items that are taken later? Compare the share among ranks 1 to 5
# with that among ranks 6 to `k`.

# %% tags=["hide-cell"]
Markdown(f"Ranks 1 to 5: {share[:5].mean():.2f} %; ranks 6 to {k}: {share[5:k].mean():.2f} %.")

# %% [markdown]
# :::{dropdown} Why
# The better the reference, the more of what people go on to take stands at its very top, and the more a pool saves
# against `hard`. Where the two shares are alike, the reference cannot tell the best few from the next, and a pool saves
# little.
# :::
#
# **2. How much data does it need?** The intervals in the table are over users. How many times as many users would halve
# them?

# %% tags=["hide-cell"]
gain = user_bootstrap(ndcg["reference"], ndcg["topk"])
half = f"half of that of `topk` is now {(gain.high - gain.low) / 2:.1f} percentage points wide"
Markdown(
    f"Four times as many, {4 * dataset.n_users:,}, because an interval shrinks with the root of the number of users; "
    f"{half if gain.has_limits else '`topk` has none yet: too few users have a hit'}."
)

# %% [markdown]
# *Change this and rerun:* with `k = 5` the pool is nearly as hard as the hardest item; look at its line in the table of
# the push.
#
# **Next:** [add your own strategy](../extend).
