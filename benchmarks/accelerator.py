"""Our own curves on a GPU: epochs, encoders, ranking, and seeds side by side, in accelerator.json.

RODPO_DATA=/path/to/amazon python benchmarks/accelerator.py

Measures on the first CUDA device with what scaling.py does on a CPU. What bounds these small models there is how fast
one thread asks for their many small operations, so the processor beside the GPU is on record, too.
"""

import argparse
import datetime
import json
import subprocess
import sys
from pathlib import Path

from libraries import HERE
from machine import machine
from results import Process, points
from run import export

CURVES = ("inference", "encoders", "cost", "seeds")
FILE = HERE / "accelerator.json"


def summary(lines: list[dict], **about) -> dict:
    """What accelerator.json holds: about the machine and the data, and each curve with its points."""
    curves = {}
    for curve in CURVES:
        own = [line for line in lines if line.get("curve") == curve]
        process = Process(library="scaling", task=curve, round=0, date=about["date"], lines=own)
        curves[curve] = [point.model_dump() for point in points([process])]
    return {**about, "curves": curves}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="beauty")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, default=FILE)
    options = parser.parse_args()

    import torch

    from rodpo_lite.files import write_json
    from rodpo_lite.provenance import commit, versions
    from rodpo_lite.settings import read_preset

    if not torch.cuda.is_available():
        sys.exit("There is no CUDA device here; on a CPU `make bench` measures the same.")
    command = [sys.executable, str(HERE / "scaling.py"), *CURVES, "--device", "cuda", "--threads", "1"]
    command += ["--interactions", str(export(options.dataset, None)), "--repeats", str(options.repeats)]
    done = subprocess.run([*command, "--largest", "5"], stdout=subprocess.PIPE, text=True, check=True)
    about = {"date": datetime.date.today().isoformat(), "dataset": options.dataset, "commit": commit()}
    about |= {"accelerator": torch.cuda.get_device_name(), "cpu": machine(1).cpu, "versions": versions()}
    about |= {"measured": f"{options.repeats} times each", "k": read_preset("recommended")["negatives"]["k"]}
    write_json(options.out, summary([json.loads(line) for line in done.stdout.splitlines()], **about))


if __name__ == "__main__":
    main()
