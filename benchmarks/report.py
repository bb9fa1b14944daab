"""The table of a results file, as Markdown: python benchmarks/report.py [RESULTS]"""

import sys
from pathlib import Path

from results import Outcome, Results

NAMES = {
    "import": "Import, fresh process",
    "epoch-full": "Epoch, full cross-entropy",
    "epoch-sampled": "Epoch, sampled softmax, 512 negatives",
    "epoch-bce": "Epoch, binary cross-entropy, one negative",
    "evaluate": "All users' test items ranked over the catalogue",
    "quality-full": "Training to the target, full cross-entropy",
    "quality-sampled": "Training to the target, sampled softmax",
}
CURVE_NAMES = {
    "cost": "Ours: an epoch, and the plain products of its cross-entropy",
    "encoders": "Ours: an epoch by encoder",
    "inference": "Ours: all users ranked, by encoder",
    "items": "Ours: a step over the items of the catalogue",
    "users": "Ours: an epoch over users",
    "length": "Ours: a step of as many positions over the length of a history",
    "pool": "Ours: a step of an alignment over K",
    "seeds": "Ours: two epochs of the synthetic world, for each of so many seeds",
}


def seconds(outcome: Outcome) -> str:
    """Median and range, or the reason why there is none."""
    if outcome.seconds is None:
        return outcome.note or "–"
    s = outcome.seconds
    return f"{s.median:.3g} ({s.min:.3g} to {s.max:.3g}; {len(s.raw)})"


def ratio(outcome: Outcome, ours: Outcome | None) -> str:
    """How many times our median."""
    if outcome.seconds is None or ours is None or ours.seconds is None:
        return "–"
    return f"{outcome.seconds.median / ours.seconds.median:.3g}×"


def table(results: Results) -> str:
    """One table for each task, fastest library first."""
    m = results.machine
    parts = [
        f"{results.dataset}, {results.date}. {m.cpu}, {m.cores} cores, {m.memory_gib} GiB, {' '.join(m.flags)};"
        f" {m.threads} threads. Seconds: median (least to most; how many). Memory: median peak of the process."
    ]
    for task, outcomes in results.tasks.items():
        ours = outcomes.get("ours")
        ordered = sorted(outcomes.items(), key=lambda pair: pair[1].seconds.median if pair[1].seconds else float("inf"))
        lines = [f"### {NAMES.get(task, task)}", "", "| library | seconds | of ours | MiB |", "|---|---|---|---|"]
        for library, outcome in ordered:
            memory = f"{outcome.peak_mib.median:.0f}" if outcome.peak_mib else "–"
            lines.append(f"| {library} | {seconds(outcome)} | {ratio(outcome, ours)} | {memory} |")
        parts.append("\n".join(lines))
    for curve, found in results.curves.items():
        lines = [f"### {CURVE_NAMES[curve]}", "", "| of | x | milliseconds |", "|---|---|---|"]
        for point in found:
            s = point.seconds
            range_of = f"{s.median * 1e3:.3g} ({s.min * 1e3:.3g} to {s.max * 1e3:.3g}; {len(s.raw)})"
            lines.append(f"| {point.of} | {point.x:.7g} | {range_of} |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


if __name__ == "__main__":
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("results.json")
    print(table(Results.model_validate_json(path.read_text(encoding="utf-8"))))
