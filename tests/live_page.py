"""A page with the live figures and nothing else, in the places that they have in the book, on inputs of no meaning."""

from pathlib import Path

import numpy as np
import torch
from tiny_book import PROJECT

from companion.demonstrations.lab_world import SIZES, Reference, World, _rounded
from companion.findings import power
from companion.site import scripts, staging
from rodpo_lite.evaluation import metrics

BOOK = PROJECT / "book"


VERDICTS = {
    "choices": {
        "base": [["fused", "one tower"], ["towers", "two"]],
        "rejected": [["topk", "the pool"], ["hard", "the hardest"]],
        "against": [["reference", "the reference"], ["hard", "the hardest"]],
        "protocol": [["all items", "all items"], ["history dropped", "history dropped"]],
        "dataset": [["toys", "Toys"], ["sports", "Sports"], ["beauty", "Beauty"]],
    },
    "rows": [
        [0, 0, 1, 0, 0, 0, 5.6, 4.0, 7.1], [0, 0, 1, 0, 0, 1, 9.5, 4.9, 14.1], [0, 0, 1, 0, 0, 2, 2.9, -0.8, 4.9],
        [0, 0, 1, 0, 1, 0, 3.2, 1.9, 4.6], [0, 0, 1, 0, 1, 1, 0, 0, 0], [0, 0, 1, 0, 1, 2, -3, -5, -1],
        [0, 1, 0, 1, 0, 0, -2.2, -3.6, -0.8],
    ],
}  # fmt: skip


def random_world() -> World:
    """As large as the book's, of nothing in particular."""
    rng, users, items = np.random.default_rng(0), SIZES.users, SIZES.items
    user = np.sort(rng.integers(users, size=2800))
    owned, liked = rng.random((2, users, items)) < [[[0.03]], [[0.2]]]
    positive = rng.integers(items, size=len(user))
    owned[user, positive] = True
    tables = [_rounded(torch.from_numpy(rng.normal(size=(rows, 16)))) for rows in (items, len(user), users)]
    return World(user, positive, liked, owned, [Reference(epochs, *tables) for epochs in (6, 16, 48)])


def random_runs() -> tuple[np.ndarray, np.ndarray]:
    """NDCG@5 of 3,000 users and four seeds before and after, of which most users have none."""
    rng = np.random.default_rng(0)
    ranks = np.where(rng.random((2, 4, 3000)) < 0.1, rng.integers(0, 5, size=(2, 4, 3000)), 9)
    ranks[:, :, rng.random(3000) < 0.5] = 9
    return metrics.ndcg(ranks[0]), metrics.ndcg(np.where(rng.random((4, 3000)) < 0.8, *ranks))


def write_live_page(folder: Path) -> Path:
    """Write it into a new folder."""
    inputs = {"pool": None, "race": random_world().payload()}
    inputs |= {"verdicts": VERDICTS, "power": power.packed(*random_runs())}
    static = folder / "_static"
    (static / "lab").mkdir(parents=True)
    for style in ("rodpo.css", "lab.css"):
        (static / style).write_bytes((BOOK / "_static" / style).read_bytes())
    modules = {static / "lab" / path.name: path.read_bytes() for path in (BOOK / "_static" / "lab").glob("*.js")}
    for path, script in scripts.classic(modules, static / "lab").items():
        path.write_bytes(script)
    figures = ""
    for name, given in inputs.items():
        words = {"caption": "A caption.", "alt": f"The figure {name}.", "data": None, "live": name, "inputs": given}
        words["still"] = "As it is at first."
        figures += staging.figure_html({}, words, f"{name}.svg", "made", staging.live_html(BOOK, words))
    page = folder / "notebooks" / "page.html"
    page.parent.mkdir()
    styles = "".join(f'<link rel="stylesheet" href="../_static/{name}">' for name in ("rodpo.css", "lab.css"))
    page.write_text(
        '<!doctype html><html lang="en" data-theme="light"><head><meta charset="utf-8"><title>Live</title>'
        f'<meta name="viewport" content="width=device-width">{styles}<style>:root {{ --pst-color-background: #fff }} '
        'html[data-theme="dark"] body { background: #14181d } '
        "body { margin: 1rem; max-width: 680px; color: var(--pst-color-text-base) }</style></head>"
        f'<body class="bd-article"><main class="text_html"><h1>Live</h1>{figures}</main></body></html>',
        encoding="utf-8",
    )
    return page
