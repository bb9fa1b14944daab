"""A table as a shop might have it, to try the import on: a synthetic world with names, dates and titles."""

from pathlib import Path

import pandas as pd

from rodpo_lite.data.synthetic import WorldSizes, open_world

SIZES = WorldSizes(users=800, items=400)


def write_example(folder: Path, seed: int = 0) -> tuple[Path, Path]:
    """Write clicks.csv (customer, product, time) and products.csv (product, title) into `folder`; returns both."""
    dataset, _ = open_world(seed=seed, sizes=SIZES)
    names = [f"sku-{number:04d}" for number in range(dataset.n_items)]
    clicks = pd.DataFrame(
        {
            "customer_id": [f"c{number:05d}" for number, n in enumerate(dataset.lengths) for _ in range(n)],
            "product_id": [names[item] for item in dataset.items],
            "time": pd.to_datetime(dataset.timestamps, unit="s").strftime("%Y-%m-%dT%H:%M:%S"),
        }
    )
    folder = Path(folder)
    clicks.to_csv(folder / "clicks.csv", index=False)
    pd.DataFrame({"product_id": names, "title": dataset.titles}).to_csv(folder / "products.csv", index=False)
    return folder / "clicks.csv", folder / "products.csv"
