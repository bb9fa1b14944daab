"""Whether bf16 products cost quality: validation NDCG@5 of both precisions, seed by seed, at default settings.

    python benchmarks/precision.py /path/to/amazon/beauty /path/to/amazon/toys --seeds 5

Writes benchmarks/precision.json after each pair; what it holds is not run again. Seeds count from 200, apart from those
that results are reported for.
"""
# ruff: noqa: E402

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("folders", type=Path, nargs="+", help="dataset folders")
parser.add_argument("--seeds", type=int, default=5)
parser.add_argument("--epochs", type=int, default=12, help="length of the schedule")
parser.add_argument("--threads", type=int, default=2)
parser.add_argument("--out", type=Path, default=Path(__file__).with_name("precision.json"))
options = parser.parse_args()
os.environ["OMP_NUM_THREADS"] = str(options.threads)

import torch
from machine import machine

from rodpo_lite.config import ReferenceConfig
from rodpo_lite.data.schema import read_dataset
from rodpo_lite.files import write_json
from rodpo_lite.provenance import commit, versions
from rodpo_lite.settings import build
from rodpo_lite.training import runs

FIRST_SEED = 200


def pair(dataset, seed: int) -> dict:
    """Both runs of a seed."""
    began, found = time.perf_counter(), {}
    for precision in ("fp32", "bf16"):
        config = {"seed": seed, "training": {"precision": precision, "epochs": options.epochs}}
        with tempfile.TemporaryDirectory() as folder:
            record = runs.train(dataset, build(ReferenceConfig, config), Path(folder))
        found[precision] = record["valid"]["ndcg@5"]
    return {"dataset": dataset.name, "seed": seed, **found, "seconds": round(time.perf_counter() - began, 1)}


def main() -> None:
    torch.set_num_threads(options.threads)
    pairs = json.loads(options.out.read_text())["pairs"] if options.out.exists() else []
    for folder in options.folders:
        dataset = read_dataset(folder)
        for seed in range(FIRST_SEED, FIRST_SEED + options.seeds):
            if not any((known["dataset"], known["seed"]) == (dataset.name, seed) for known in pairs):
                pairs.append(pair(dataset, seed))
                found = {"epochs": options.epochs, "commit": commit(), "versions": versions(), "pairs": pairs}
                write_json(options.out, {"machine": machine(options.threads).model_dump(), **found})
                print(json.dumps(pairs[-1]), flush=True)


if __name__ == "__main__":
    main()
