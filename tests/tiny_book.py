"""A book of two notebooks that executes in seconds, with the project's own configuration and static files."""

import shutil
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent

INDEX = """# A tiny book

It cites {cite:t}`rafailov2023dpo` and has mathematics, $\\beta h$.

```{bibliography}
:all:
```
"""
TOC = """format: jb-book
root: index
chapters:
  - file: notebooks/plots
  - file: notebooks/sums
"""
PROFILES = """profiles:
  smoke: {}
  paper:
    sums: {last: 5}
"""
PLOTS = r"""# %% [markdown]
# # Plots
#
# The margin $h$ and its weight:
#
# $$
# w = \beta\,\sigma(-\beta h) = \frac{\beta}{1 + e^{\beta h}}, \qquad
# \boldsymbol{\theta} \leftarrow \boldsymbol{\theta} + \eta\, w \sum_{j \in \mathcal{P}_K(S)} q_j \nabla s_\theta(S, j)
# \quad \text{for every } K \text{ and } \beta \text{ in the grid}
# $$

# %% tags=["parameters"]
profile = "smoke"  # set by `rodpo book`
seed = 3

# %%
import numpy as np
import pandas as pd
import plotly.graph_objects as go

from companion.site import figures
from companion.site.pages import record

figures.setup()
h = np.linspace(-4, 4, 60)
fig = go.Figure()
for strategy, beta in (("topk", 0.5), ("hard", 1.0), ("uniform", 2.0)):
    fig.add_scatter(x=h, y=beta / (1 + np.exp(beta * h)), name=f"{strategy}, β = {beta}", **figures.style(strategy))
fig.update_layout(xaxis_title="margin h", yaxis_title="suppression w")
fig.update_layout(updatemenus=[{"buttons": [
    {"label": "all", "method": "restyle", "args": [{"visible": [True, True, True]}]},
    {"label": "top-K only", "method": "restyle", "args": [{"visible": [True, "legendonly", "legendonly"]}]},
]}])
data = pd.DataFrame({"h": h, "w <&>": 1 / (1 + np.exp(h))})
figures.show(fig, caption="The weight $w$ of a push </script> & <b>more</b>.", alt="Three falling curves.", data=data)

# %%
record("w_at_0", np.float64(0.5))

# %% [markdown]
# ## With a slider

# %%
bars = go.Figure(go.Bar(x=["hard", "topk"], y=[3.0, 2.0]))
bars.update_layout(sliders=[{"steps": [
    {"label": str(k), "method": "restyle", "args": [{"y": [[3.0, 3.0 / k]]}]} for k in (1, 2, 5, 10, 20)
]}])
figures.show(bars, caption="Pushes by strategy.", alt="Two bars.")

# %% tags=["hide-input"]
evil = '<img src="x" onerror="window.live = 1"><script>window.live = 1</script> $\\alpha$ [a](javascript:window.live=1)'
titles = go.Figure(go.Bar(x=[evil, "plain"], y=[1, 2], name=evil, text=[evil, ""], showlegend=True))
figures.show(titles, caption="Titles of items.", alt="Two bars.", data=pd.DataFrame({"title": [evil]}))

# %%
figures.table(pd.DataFrame({f"column {n}": [n / 7, None] for n in range(12)}), "A wide table")

# %%
changes = [f"{n - 7:+d}.5 % ± 1" if n else "–" for n in range(15)]
long = pd.DataFrame({"row": [f"row {n}" for n in range(15)], "change": changes, "runs": [n * 1000 for n in range(15)]})
figures.table(long, "A long table")
figures.show(go.Figure(go.Bar(y=[1])), caption="By hand, $K$.", alt="A live figure.", live="pool")

# %%
print("a line of output that is far too long for a telephone, " * 4)
"""
SUMS = """# %% [markdown]
# # Sums

# %% tags=["parameters"]
profile = "smoke"
last = 3

# %%
from companion.site.pages import record

total = sum(range(last + 1))
record("total", total)
total
"""


def write_tiny_book(root: Path) -> Path:
    """Write the sources of the book below `root` and return it."""
    shutil.copytree(PROJECT / "book" / "_static", root / "book" / "_static")
    for name in ("extra", "live"):
        shutil.copytree(PROJECT / "book" / name, root / "book" / name)
    for name in ("references.bib", "page_end.md.j2", "colab.py.j2", "llms.txt.j2"):
        shutil.copy(PROJECT / "book" / name, root / "book")
    shutil.copy(PROJECT / "_config.yml", root)
    (root / "notebooks").mkdir()
    for name, text in {
        "book/index.md": INDEX, "book/_toc.yml": TOC, "notebooks/profiles.yml": PROFILES,
        "notebooks/plots.py": PLOTS, "notebooks/sums.py": SUMS,
    }.items():  # fmt: skip
        (root / name).write_text(text, encoding="utf-8")
    return root
