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
# # The base
#
# **The question.** What is aligned is a reference, and the claims of the paper were made on one that is likely HM4SR
# {cite}`zhang2025hm4sr`. How good is that base beside ours, what makes it work, and when does it begin to memorise?
#
# *Reading: 6 minutes. Running: a minute. Before this: [training](training).*

# %% tags=["parameters", "hide-input"]
profile = "smoke"
ledger_folder = None  # the project's own, data/results

# %% tags=["hide-input"]
import plotly.graph_objects as go
from companion.evidence import interventions
from companion.evidence.grid import Grid
from companion.evidence.ledger import Ledger
from companion.evidence.plan import GRID
from companion.findings import bases, negatives
from companion.findings.sentences import listed, render
from companion.site import figures
from companion.site.pages import record
from IPython.display import Markdown, display

figures.setup()
ledger, grid = Ledger.open(ledger_folder), Grid.read(GRID)
curves, tests = bases.along_training(grid, ledger), bases.side_by_side(grid, ledger)
Markdown(render("base", bases=bases.memorising(curves), best=tests))

# %% [markdown]
# ## Three bases
#
# `fused` adds up IDs, texts and images and has one tower. `towers` has a tower for each modality, trained fast. `hm4sr`
# is HM4SR as far as its public code says, with its faults mended, and every difference a key that can be set alone:

# %% tags=["hide-input"]
figures.table(bases.settings(grid, ledger), "The preset `hm4sr`, and what the runs on record changed")

# %% tags=["hide-input"]
named = {"validation": "validation, all items", "test": "test, all items"}
named |= {"validation_masked": "validation, dropped", "test_masked": "test, dropped"}
figures.table(tests[["dataset", "row", "seeds", *named]].rename(columns=named), "NDCG@5, mean over seeds")
for row in tests.itertuples():
    record(f"{row.row}_{row.dataset}_ndcg@5", row.test)

# %% [markdown]
# On Toys `hm4sr` reads the times of the reviews, too; users, items and order are the same, so that the lines may be
# compared. Its rates, regularisation and schedule are tuned by us, by validation with all items ranked.
#
# `rodpo train --preset hm4sr --data data/amazon/toys-timed --out runs/hm4sr` trains it. Its loss has four terms: the
# cross-entropy over the catalogue, a contrast of the ID tower with the target's ID, a contrast of each history with
# itself where the times alone stand for some of its items, and the categories of the next item. The time of the newest
# input is not known where the test item is predicted, so that in training times are left out at random.
#
# ## Along training

# %% tags=["hide-input"]
fig, groups = go.Figure(), {}
for protocol in bases.PARTS:
    for number, (base, part) in enumerate(curves.groupby("base", sort=False)):
        groups.setdefault(protocol, []).append(len(fig.data))
        fig.add_scatter(x=part["epoch"], y=part[protocol], name=base, mode="lines", **figures.style(number))
fig.update_xaxes(title="epoch")
fig = fig.update_yaxes(title="validation NDCG@5")

# %% tags=["hide-input"]
waiting = [base for base in bases.BASES if base not in set(curves["base"])]
if waiting:
    command = f"rodpo grid --datasets {bases.DATASET} --rows {','.join(waiting)}"
    names = listed(f"`{base}`" for base in waiting)
    display(Markdown(f"*Curves of {names} are not on record; `{command}` makes them.*"))
if groups:
    figures.slider(fig, groups, next(iter(groups)), "Ranked: ")
    figures.show(
        fig.update_layout(showlegend=True),  # a single base is named, too
        caption="Validation NDCG@5 on Toys, mean over seeds, of the bases on record. A base memorises where it still "
        "gains with all items ranked and loses with the history dropped.",
        alt="A curve over epochs for each base, for either protocol.",
        data=curves,
    )

# %% tags=["hide-input"]
fig, losses = go.Figure(), ("training loss", "validation loss")
for number, (base, part) in enumerate(curves.groupby("base", sort=False)):
    for loss, dash in zip(losses, ("dot", "solid"), strict=True):
        look = figures.style(number)["line"] | {"dash": dash}
        fig.add_scatter(x=part["epoch"], y=part[loss], name=f"{base}, {loss.split()[0]}", mode="lines", line=look)
fig.update_xaxes(title="epoch")
fig = fig.update_yaxes(title="cross-entropy, nats")

# %% tags=["hide-input"]
if len(curves):
    figures.show(
        fig,
        caption="Cross-entropy over the catalogue in training, with dropout (dotted), and on the validation items "
        "(solid). Where the two part, a base learns what does not carry over.",
        alt="A falling dotted curve and a solid one that turns, for each base.",
    )

# %% [markdown]
# ## What makes it work

# %% tags=["hide-input"]
parts = {base: bases.parts(grid, ledger, base) for base in ("hm4sr", "towers")}
if all(table.empty for table in parts.values()):
    display(Markdown("*Not on record yet: the rows of the grid whose names begin with `hm4sr.` and `towers.`.*"))
for (base, table), what in zip(parts.items(), ("taken away from", "given to"), strict=True):
    if table.empty:
        continue
    figures.show_changes(
        table.rename(columns={"part": "what"}).assign(dataset="toys"),
        table["part"].unique(),
        title="change of validation NDCG@5, %",
        height=520,
        caption=f"What each part is worth where it alone is {what} `{base}`: two seeds, so that an interval is wide.",
        alt="For each part, a point with its interval around zero.",
        hidden=["dataset"],
    )

# %% [markdown]
# ## Does the pool cure memorising?
#
# ```{margin}
# References differ in more than in what they memorise, and are of two families, with one tower and with several, so
# this is a look and no experiment. p: how often chance does as much, if references change places within their datasets.
# ```
#
# A base is kept at the epoch that is best with all items ranked. By then it may have lost some of its best NDCG@5 with
# the history dropped; that loss is called memorising here. If an alignment with the pool cures it, it should gain most
# where most was lost.

# %% tags=["hide-input"]
cured = bases.cures(grid, ledger)
fig = figures.over(cured, "memorised, %", "change %", "dataset", slide="protocol", text="before", mode="markers")
fig.update_xaxes(title="lost with the history dropped by the epoch that was kept, %")
fig = fig.update_yaxes(title="pool over its reference, %")

# %% tags=["hide-input"]
goes = bases.goes_with(cured)
for protocol, one in goes.items():
    record(f"correlation_of_memory_and_gain_{protocol.replace(' ', '_')}", one["correlation"])
if len(cured):
    figures.show(
        fig,
        caption="What the pool gains in test NDCG@5 over each reference, by how much that had memorised on validation; "
        "intervals over users and seeds.",
        alt="Points with intervals: the gain of the pool over what each reference lost to memory.",
        data=cured[["dataset", "before", "protocol", "memorised, %", "change %", "low", "high"]],
    )
Markdown(render("cures", goes=goes))

# %% [markdown]
# ## Trained for less and for longer
#
# ```{margin}
# Declared in `workflow/interventions.yaml` before the runs. A reference of 8 epochs has not only memorised less: it has
# learned less of everything.
# ```
#
# References that differ in nothing else: `fused` on Toys, kept after 8 epochs, at its best epoch of 25, and after 60.
# Of what the pool gains on the one that memorised most, how much goes on the others?

# %% tags=["hide-input"]
longer = bases.trained_longer(grid, ledger)
Markdown(render("longer", longer=longer))

# %% tags=["hide-input"]
for row in longer.itertuples():
    record(f"gain_{row.reference}_{row.what}_{row.protocol}".replace(" ", "_"), row.change)
fig = figures.over(longer, "excess", "change", "what", slide="protocol", text="epochs", mode="lines+markers")
fig.update_xaxes(title="validation loss above training loss, nats")
fig = fig.update_yaxes(title="change of test NDCG@5 by the pool, %")

# %% tags=["hide-input"]
if len(longer):
    figures.show(
        fig,
        caption="What the pool gains on `fused` after 8 epochs, at its best one and after 60, by how far its loss on "
        "validation is above that in training; intervals over users and seeds.",
        alt="Two lines of three points with intervals: the pool over its reference, and over more training.",
        data=longer,
    )
    absolute = bases.trained(grid, ledger).rename(columns=named)
    figures.table(absolute[["row", "test, all items", "test, dropped"]], "Test NDCG@5 on Toys, mean over five seeds")

# %% tags=["hide-input"]
answers = interventions.answers(grid, ledger, negatives.MEMORY)
for name, value in interventions.metrics(answers).items():
    record(name, value)
rivals = answers.pop("rivals")
Markdown("\n\n".join(render("intervention", **answer) for answer in answers.values()))

# %% [markdown]
# ## Plainer ways to memorise less
#
# ```{margin}
# Declared with the rest. Weight decay and label smoothing are chosen on validation; dropout was when `fused` was tuned.
# ```
#
# The same reference again, without an alignment: trained for as many epochs as reference and alignment together, with
# cross-entropy as it was, with more weight decay, with smoothed labels, or kept where it is best with the history
# dropped.

# %% tags=["hide-input"]
over, ahead = bases.plainer(grid, ledger)
for row in ahead.to_dict("records"):
    record(f"pool_over_{row['before']}_{row['protocol']}".replace(" ", "_"), row["change %"])
figures.show_changes(
    over.assign(dataset=over["dataset"].map(grid.label)),
    over["what"].unique(),
    series="protocol",
    slide=None,
    caption="What each gains over the reference on Toys, beside what the pool gains; intervals over users and seeds.",
    alt="Points with intervals for the pool and each plainer way, in both protocols, around zero.",
)
said = render("plainer", plainer=bases.as_good(grid, ledger)) or "Of none of these is it shown that it gains as much."
Markdown(f"{said}\n\n{render('intervention', **rivals)}")

# %% [markdown]
# ## Takeaways
#
# - Which base is ahead depends on the protocol, so that a number without that label cannot be compared.
# - What an alignment gains depends on how long its reference was trained: a gain says little without when that was
#   stopped. [Results](results) has what it gains on each base.
# - Hold an alignment against plainer ways that train for as long, not against its reference alone.
#
# **Next:** [the sparse mixture](experts).
