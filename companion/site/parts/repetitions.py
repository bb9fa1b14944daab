"""A figure that repeats experiments in the reader's browser, on recorded runs: how far does an interval reach?"""

import numpy as np
import plotly.graph_objects as go

from companion.findings import power
from companion.site import figures


def show(before: np.ndarray, after: np.ndarray) -> None:
    """Show it for NDCG@5 of recorded runs before and after, [S, U] each."""
    reach = power.reach(before, after, users=[500, 1000, 2000, 4000, 8000, 16000, 32000], seeds=[1, 3, 5])
    fig = go.Figure()
    for number, (seeds, part) in enumerate(reach.groupby("seeds")):
        name = f"{seeds} seed{'s' * (seeds > 1)}"
        fig.add_scatter(x=part["users"], y=part["± %"], name=name, mode="lines+markers", **figures.style(number))
    fig.update_xaxes(type="log", title="users")
    fig.update_yaxes(title="half of a 95 % interval, %", rangemode="tozero")
    figures.show(
        fig,
        caption="Drawn with replacement from what each user of Toys got from `topk` and from its reference, with five "
        "seeds.",
        still="This is how far an interval reaches on average.",
        alt="A hundred intervals around a true change, of which those that leave zero out are marked and counted.",
        data=reach,
        live="power",
        inputs=power.packed(before, after),
    )
