"""Whether bf16 products cost quality: validation NDCG@5 of both precisions, seed by seed, at default settings.

    python benchmarks/precision.py --data /path/to/amazon/beauty --seeds 5

One line of JSON for each pair. Seeds count from 200, apart from those that results are reported for.
"""
# ruff: noqa: E402

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--data", type=Path, required=True, help="dataset folder")
parser.add_argument("--seeds", type=int, default=5)
parser.add_argument("--epochs", type=int, default=12, help="length of the schedule")
parser.add_argument("--threads", type=int, default=2)
options = parser.parse_args()
os.environ["OMP_NUM_THREADS"] = str(options.threads)

import torch

from rodpo_lite import runs
from rodpo_lite.config import ReferenceConfig, build
from rodpo_lite.data.schema import read_dataset

FIRST_SEED = 200


def main() -> None:
    torch.set_num_threads(options.threads)
    dataset = read_dataset(options.data)
    for seed in range(FIRST_SEED, FIRST_SEED + options.seeds):
        began, found = time.perf_counter(), {}
        for precision in ("fp32", "bf16"):
            training = {"precision": precision, "epochs": options.epochs}
            config = build(ReferenceConfig, {"seed": seed, "training": training})
            with tempfile.TemporaryDirectory() as folder:
                found[precision] = runs.train(dataset, config, Path(folder))["valid"]["ndcg@5"]
        seconds = time.perf_counter() - began
        print(json.dumps({"dataset": dataset.name, "seed": seed, "seconds": seconds, **found}), flush=True)


if __name__ == "__main__":
    main()
