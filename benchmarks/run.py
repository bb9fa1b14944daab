"""Run every library side by side on the same data, in turn, and write benchmarks/results.json, and our own curves.

python benchmarks/run.py                            all tasks, three rounds; what is finished is not run again
python benchmarks/run.py --quick                    a small part of the data, one round, nothing written for good
python benchmarks/run.py --only ours,epoch-full     these libraries, these tasks; --fresh runs them anew
"""

import argparse
import datetime
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

from libraries import BENCH, CURVES, HERE, LIBRARIES, TASKS, python_of
from machine import Neighbours, machine
from report import table
from results import Outcome, Process, Results, Store, outcome, points, write_atomically


def export(dataset: str, users: int | None) -> Path:
    """The dataset as CSV, cut to the first `users` users with items numbered anew."""
    import pandas as pd

    path = BENCH / (f"{dataset}.csv" if users is None else f"{dataset}-{users}.csv")
    if not path.exists():
        source = Path(os.environ.get("RODPO_DATA", "data/amazon")) / dataset / "interactions.parquet"
        if not source.exists():
            sys.exit(f"{source} does not exist: name the folder of the datasets in RODPO_DATA")
        log = pd.read_parquet(source, columns=["user", "item", "position"])
        if users is not None:
            log = log[log["user"] < users]
            log["item"] = log["item"].factorize(sort=True)[0]
        path.parent.mkdir(exist_ok=True)
        log.to_csv(path.with_suffix(".part"), index=False)
        path.with_suffix(".part").replace(path)
    return path


def run_process(
    name: str, task: str, number: int, python: str, data: Path, options: argparse.Namespace
) -> Process | None:
    """One process of one library; None, with the end of its messages on stderr, if it failed."""
    library = LIBRARIES[name]
    limit = options.limit_seconds if task.startswith("quality") else options.epoch_seconds
    given = {"--interactions": data, "--repeats": options.repeats, "--seed": number, "--threads": options.threads}
    given |= {"--target": options.target, "--limit-seconds": limit} if task in TASKS else {"--largest": options.largest}
    command = [python, str(HERE / library.script), *TASKS.get(task, [task]), *library.arguments]
    command += [str(part) for pair in given.items() for part in pair]
    print(f"round {number}: {task} of {name} …", end=" ", file=sys.stderr, flush=True)
    if task == "import":  # once for nothing: no library is to pay for a cold disk
        subprocess.run(command, capture_output=True)
    with Neighbours() as neighbours:
        done = subprocess.run(command, capture_output=True, text=True)
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    date = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
    others = neighbours.cores
    process = Process(library=name, task=task, round=number, date=date, others=others, lines=lines)
    if done.returncode or not (process.measured() or process.stated("unsupported")):
        print(f"failed with exit {done.returncode}:\n{done.stderr[-1500:]}", file=sys.stderr)
        return None
    busy = f"; {others:.1f} cores were busy with something else" if others and others > 0.1 else ""
    print((process.stated("unsupported") or f"{process.measured()[-1]['seconds']:.3g} s") + busy, file=sys.stderr)
    return process


def needless(store: Store, name: str, task: str) -> bool:
    """Whether another round can tell nothing: the library lacks the task, or did not reach the target in its time."""
    earlier = store.rounds(name, task) if task in TASKS else []
    return bool(earlier) and outcome(earlier).seconds is None


def collect(store: Store, dataset: str, threads: int) -> dict[str, Results]:
    """Summaries of all that is stored, whichever run it came from: `results` of tasks, and `curves`, each if any is.

    They are apart, so that one may be measured again where the other was not.
    """
    tasks: dict[str, dict[str, Outcome]] = {}
    versions: dict[str, dict[str, str]] = {}
    for task in TASKS:
        for name in LIBRARIES:
            if processes := store.rounds(name, task):
                tasks.setdefault(task, {})[name] = outcome(processes)
                versions |= {name: processes[-1].stated("versions")} if processes[-1].stated("versions") else {}
    about = {"date": datetime.date.today().isoformat(), "dataset": dataset, "machine": machine(threads)}
    found = {"results": Results(versions=versions, tasks=tasks, **about)} if tasks else {}
    if curves := {curve: rounds for curve in CURVES if (rounds := store.rounds("scaling", curve))}:
        ours = {"ours": next(iter(curves.values()))[-1].stated("versions")}
        found["curves"] = Results(versions=ours, curves={name: points(of) for name, of in curves.items()}, **about)
    return found


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help=f"of {', '.join(LIBRARIES)}; of {', '.join((*TASKS, *CURVES))}")
    parser.add_argument("--quick", action="store_true", help="1,000 users, one round, two epochs, five seconds each")
    parser.add_argument("--fresh", action="store_true", help="run again what --only selects")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=3, help="epochs or evaluations in one process")
    parser.add_argument(
        "--epoch-seconds", type=float, default=60, help="start no further epoch in a process after so much"
    )
    parser.add_argument("--limit-seconds", type=float, default=900, help="give up the target after so much training")
    parser.add_argument("--target", type=float, default=0.055, help="validation NDCG@10")
    parser.add_argument("--largest", type=float, default=1e6, help="items of the largest catalogue")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--dataset", default="beauty")
    parser.add_argument("--torch-options", default="", help="for pip, when it installs torch")
    options = parser.parse_args(argv)
    chosen = [name for name in options.only.split(",") if name]
    if unknown := [name for name in chosen if name not in LIBRARIES and name not in (*TASKS, *CURVES)]:
        parser.error(f"--only: {', '.join(unknown)} is neither a library nor a task")
    if options.quick:
        options.rounds, options.repeats, options.epoch_seconds, options.limit_seconds = 1, 2, 5, 5
        options.largest = 100_000
    names = [name for name in LIBRARIES if name in chosen] or list(LIBRARIES)
    tasks = [task for task in (*TASKS, *CURVES) if task in chosen] or [*TASKS, *CURVES]

    data = export(options.dataset, 1000 if options.quick else None)
    store = Store(BENCH / "results" / data.stem)
    pythons = {name: python_of(name, shlex.split(options.torch_options)) for name in names}
    wanted = [(name, task) for task in tasks for name in names if pythons[name] and task in LIBRARIES[name].tasks]
    if options.fresh:
        for name, task in wanted:
            for process in store.rounds(name, task):
                store.path(name, task, process.round).unlink()
    for number in range(options.rounds):
        for name, task in wanted:
            if store.get(name, task, number) is None and not needless(store, name, task):
                if process := run_process(name, task, number, pythons[name], data, options):
                    store.put(process)
    for name, found in collect(store, data.stem, options.threads).items():
        path = BENCH / f"quick-{name}.json" if options.quick else HERE / f"{name}.json"
        write_atomically(path, found)
        print(table(found))
        print(f"\nwritten: {path}", file=sys.stderr)


if __name__ == "__main__":
    main()
