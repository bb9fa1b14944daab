"""How good each library's SASRec becomes: validation NDCG@10 after each of equally many epochs of full cross-entropy.

python benchmarks/converged.py                      ours, RePlay, RecBole; what is on record stays
python benchmarks/converged.py --only ours,replay --seeds 0,1 --threads 1
"""

import argparse
import datetime
import itertools
import json
import shlex
import subprocess
import sys

from libraries import HERE, LIBRARIES, python_of
from machine import machine
from run import export

COMPARED = ("ours", "replay", "recbole")
FILE = HERE / "converged.json"


def train(name: str, seed: int, python: str, data, options: argparse.Namespace) -> dict:
    """One library's curve [[seconds, NDCG@10] after each epoch], its settings and versions."""
    command = [python, str(HERE / LIBRARIES[name].script), "quality", "--loss", "full", "--interactions", str(data)]
    command += ["--epochs", str(options.epochs), "--threads", str(options.threads), "--target", "2"]
    command += ["--seed", str(seed)]
    found: dict = {
        "library": name,
        "seed": seed,
        "date": datetime.date.today().isoformat(),
        "machine": machine(options.threads).model_dump(),
        "curve": [],
    }
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        for line in map(json.loads, process.stdout):
            if "ndcg10" in line:
                found["curve"].append([round(line["seconds"], 1), line["ndcg10"]])
                print(f"{name}, seed {seed}, epoch {line['epoch']}: {line['ndcg10']:.5f}", file=sys.stderr, flush=True)
            found |= {key: line[key] for key in ("settings", "versions") if key in line}
    if process.returncode or len(found["curve"]) < options.epochs:
        sys.exit(f"{name} stopped after {len(found['curve'])} epochs with exit {process.returncode}")
    return found


def kept(options: argparse.Namespace) -> dict:
    """What is on record, of this dataset and so many epochs."""
    record = json.loads(FILE.read_text()) if FILE.exists() else {}
    wanted = {"dataset": options.dataset, "epochs": options.epochs}
    if record and {key: record[key] for key in wanted} != wanted:
        sys.exit(f"{FILE.name} holds {record['dataset']} after {record['epochs']} epochs; move it away first")
    return wanted | {"runs": record.get("runs", [])}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(COMPARED), help="libraries")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--epochs", type=int, default=25)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--dataset", default="toys")
    parser.add_argument("--torch-options", default="", help="for pip, when it installs torch")
    options = parser.parse_args()
    for name, seed in itertools.product(options.only.split(","), map(int, options.seeds.split(","))):
        if any((run["library"], run["seed"]) == (name, seed) for run in kept(options)["runs"]):
            continue
        if python := python_of(name, shlex.split(options.torch_options)):
            found = train(name, seed, python, export(options.dataset, None), options)
            record = kept(options)  # again: another process may have put a run on record meanwhile
            record["runs"].append(found)
            FILE.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
