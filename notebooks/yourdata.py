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
# **The question.** You have a log of who took what, and when. Should you align your recommender on it, with what, and
# what will it bring?

# %% tags=["hide-input"]
from companion.evidence.grid import Grid
from companion.evidence.ledger import Ledger
from companion.evidence.plan import GRID
from companion.findings.sentences import render
from companion.own_log import tables
from IPython.display import Markdown, display

grid, ledger = Grid.read(GRID), Ledger.open(None)
Markdown(render("card", **tables.card(grid, ledger)))

# %% [markdown]
# *Reading: 6 minutes. Running: about two minutes on the example. Before this: nothing; [the lab](lab) shows what a
# pool is.*

# %% tags=["parameters", "hide-input"]
profile = "smoke"
interactions = ""  # your CSV of users, items and times; empty takes the example
items = ""  # optional: a CSV of items with texts
image_folder = ""  # optional: a folder of images called ID.jpg, .png or .webp
user_column = ""  # the names of columns, and the delimiter, where they are not found
item_column = ""
time_column = ""
delimiter = ""
quick = False  # one seed and a few epochs, which decide nothing
worth = 2.0  # the smallest gain that is worth an alignment, in percent
seed = 0  # of the example

# %% tags=["hide-input"]
import tempfile
from pathlib import Path

from companion.findings import power
from companion.findings.examples import write_example
from companion.own_log.decision import decide
from companion.own_log.report import NEEDED, PUSH, answer, later_picture, models_picture, whom_picture
from companion.own_log.trial import REFERENCE, Trial
from companion.site import figures
from companion.site.pages import record
from companion.site.parts import repetitions

from rodpo_lite.data.importers.columns import preview
from rodpo_lite.data.importers.dataset import import_dataset
from rodpo_lite.data.importers.request import Request
from rodpo_lite.data.schema import read_dataset
from rodpo_lite.evaluation.recommend import recommend
from rodpo_lite.training import runs

figures.setup()
holder = tempfile.TemporaryDirectory()
space = Path(holder.name)

# %% [markdown]
# ## One command
#
# ```bash
# rodpo report clicks.csv --out report.html
# ```
#
# It reads the log and says what it took for what; measures how long it will take and says so; trains five seeds of a
# reference, of one with label smoothing, and of alignments that reject nothing, any item, the hardest, and one of the
# pool, beside popularity and nearest neighbours; and writes one HTML file whose first line is *keep*, *discard* or *too
# small to say*. `--quick` is a first look, which decides nothing. What was stopped goes on with the same command.
#
# This page makes the same, step by step, on a log of yours (`interactions` above) or on an example.
#
# ## The log
#
# One row for each time that somebody took something: a user, an item, and a time. The names of the columns and the
# delimiter are found; a second table may say what the items are.

# %% tags=["hide-input"]
if not interactions:
    interactions, items = write_example(space, seed)
given = {
    "user": str(user_column), "item": str(item_column), "time": str(time_column), "delimiter": str(delimiter),
    "items": items and Path(str(items)), "image_folder": image_folder and Path(str(image_folder)),
}  # fmt: skip
request = Request(Path(str(interactions)), **{name: value for name, value in given.items() if value})
figures.table(preview(request), "The first rows of the interactions")

# %%
left_out = import_dataset("csv", request, space / "mine")
dataset = read_dataset(space / "mine")

# %% tags=["hide-input"]
Markdown(
    f"{dataset.n_users:,} users, {dataset.n_items:,} items, {len(dataset.items):,} interactions; item features: "
    f"{', '.join(dataset.features) or 'none'}; {'; '.join(left_out) or 'nothing was left out'}."
)

# %% [markdown]
# Look at this line first: most wrong results begin with a wrong column. Rows are put in order of time, users with fewer
# than three interactions are left out, and texts become vectors by TF-IDF and a truncated SVD, offline.
#
# :::{dropdown} Other logs, texts and images
# `rodpo data import --help` lists the formats (plain tables in every usual form, RecBole's atomic files, Amazon's
# reviews of 2014, 2018 and 2023) and the columns that are found. Of a table of items every column with words counts;
# `--text title,brand` says which do. `--image-folder images` adds thumbnails of images called `ID.jpg`;
# `--text-model` and `--image-model` take encoders of the optional package sentence-transformers in place of TF-IDF and
# thumbnails. `rodpo data fetch beauty --out data/amazon/originals` downloads such reviews from where they are
# published, and says how to import them. `rodpo report` takes the folder of an imported log, too.
# :::
#
# ## The decision
#
# ```{margin}
# On validation, the best model *without* preferences is the incumbent, be it a baseline or `smoothed`: a reference with
# label smoothing, and the epochs of reference and alignment together. **Keep** needs an alignment above it with p below
# 5 % over all alignments, and an interval above zero on test, which is read once; **discard** needs every interval
# below what is worth it, on test as well; all else is **too small to say**. The rule was written before any run, in
# `companion/own_log/decision.py`; `smoothed` joined it since, which makes it stricter.
# ```

# %% tags=["hide-input"]
trial = Trial.plan(dataset, space / "mine", space / "trial", quick)
for _ in trial.run():
    pass
valid = {name: trial.ndcg(name, "valid") for name in tables.models(trial)}
decision = decide(valid, None if quick else lambda name: trial.ndcg(name, "test"), worth)
words, sentences = answer(trial, decision, quick, worth)
record("keeps", decision.verdict == "keep")
for name, values in valid.items():
    record(f"valid_ndcg5_{name}", values.mean())
Markdown(f"**{words}.** {sentences}")

# %% [markdown]
# NDCG@5 is that of each user's item for validation, the last but one, with the history dropped, as nobody is
# recommended what they have; test, the last one, is read for the decision alone. Intervals are 95 % over users and
# seeds.

# %% tags=["hide-input"]
compared = tables.comparison(trial, decision.incumbent)
if decision.valid:
    figures.show(**models_picture(compared, decision.incumbent)._asdict())

# %% tags=["hide-input"]
needed = tables.enough(trial, decision)
figures.table(needed.map("{:,}".format).to_frame(), NEEDED)

# %% [markdown]
# ## What would be rejected wrongly
#
# Nobody says which items of a log are false negatives, but some can be seen: what a user takes *later* is at an earlier
# position an item that they want and do not have yet. The true share is higher, because what people want and never take
# is in no table.

# %% tags=["hide-input"]
later, push = tables.taken_later(trial)
share = later["taken later, %"].to_numpy()
figures.show(**later_picture(later)._asdict())
figures.table(push, PUSH)
record("taken_later_at_rank_1", share[0] / 100)
for name, part in push.set_index("model").iloc[:, 0].items():
    record(f"erroneous_share_{name}", part / 100)

# %% [markdown]
# ## For whom it changes

# %% tags=["hide-input"]
whom = tables.for_whom(trial, decision)
if whom.empty:
    display(Markdown("Too few users have a hit to say."))
else:
    figures.show(**whom_picture(whom, decision)._asdict())

# %% [markdown]
# ## Would you see a gain?
#
# Set the number of users to yours. What is drawn here are recorded runs on Amazon's toys, so that your own users may be
# steadier, or less so; the square root holds for all.

# %% tags=["hide-input"]
repetitions.show(*power.recorded(grid, ledger))

# %% [markdown]
# ## Use the model
#
# For the first user, after the whole history, without what the user has already:

# %%
name = REFERENCE if decision.use in trial.baselines else decision.use  # a baseline needs no model
best = runs.load(trial.best_run(name), dataset).model
figures.table(recommend(best, dataset, user=0, top=5), f"What {dataset.user_ids[0]} would be shown by `{name}`")

# %% [markdown]
# `rodpo recommend --all --out recommendations.parquet` writes the lists of all users. The README has the same in three
# lines of Python, and a recipe for an index of nearest neighbours.
#
# The steps of the report, one by one; every command explains itself with `--help`, and an interrupted one goes on with
# `--resume`. Compare with a second run with `negatives.name=none`.
#
# ```bash
# rodpo data import csv clicks.csv --items items.csv --out data/mine
# rodpo train     --data data/mine --out runs/mine
# rodpo align     --data data/mine --reference runs/mine --out runs/mine-topk --preset recommended
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
# - Ask first how many users would show the gain that you hope for; most logs are smaller.
# - Compare an aligned model with `none`, with label smoothing, and with popularity and nearest neighbours, not with its
#   reference alone.
# - What users take later is a lower bound on what is pushed down by mistake, and any log contains it.
#
# ## Exercises
#
# **1. Where do they stand?** Where in the pool are the items that are taken later? Compare the share among ranks 1 to 5
# with that further down in the pool.

# %% tags=["hide-cell"]
k = trial.alignment["negatives"]["k"]
Markdown(f"Ranks 1 to 5: {share[:5].mean():.2f} %; ranks 6 to {max(k, 6)}: {share[5 : max(k, 6)].mean():.2f} %.")

# %% [markdown]
# :::{dropdown} Why
# The better the reference, the more of what people go on to take stands at its very top, and the more a pool saves
# against `hard`. Where the two shares are alike, the reference cannot tell the best few from the next, and a pool saves
# little.
# :::
#
# **2. How much data does it need?** The interval of the decision is over users and seeds. How many times as many users
# would halve it, and would more seeds?

# %% tags=["hide-cell"]
change = decision.test or decision.valid
Markdown(
    f"Four times as many, {4 * dataset.n_users:,}, because an interval shrinks with the root of the number of users: "
    + (f"it is now {change.high - change.low:.1f} percentage points wide." if change else "there is none yet.")
    + " Seeds help only as far as they differ: what one user happens to take next is the same for all of them."
)

# %% [markdown]
# *Change this and rerun:* with `quick = True`, look at how far the change of one seed is from that of five.
#
# **Next:** [add your own strategy](../extend).
