"""The parts of the benchmark that all its numbers rest on: protocol, summary, resuming."""

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from packaging.requirements import Requirement

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
sys.path.append(str(BENCHMARKS))  # scripts, not a package: each library's own python runs some of them

import accelerator  # noqa: E402
from adapter import Run, arguments  # noqa: E402
from libraries import LIBRARIES, TASKS  # noqa: E402
from machine import machine  # noqa: E402
from protocol import evaluate, left_padded, ndcg, rank_targets, read_interactions  # noqa: E402
from report import table  # noqa: E402
from results import Process, Results, Store, outcome, summarise  # noqa: E402
from run import collect, export, needless  # noqa: E402


def interactions(tmp_path, rows):
    path = tmp_path / "log.csv"
    path.write_text("user,item,position\n" + "".join(f"{u},{i},{p}\n" for u, i, p in rows))
    return read_interactions(path)


def test_split_leaves_the_last_item_for_the_test_and_the_one_before_for_validation(tmp_path):
    log = interactions(tmp_path, [(1, 3, 3), (1, 0, 0), (1, 2, 2), (1, 1, 1), *((0, i, i) for i in range(5))])
    assert [list(s) for s in log.sequences] == [[0, 1, 2, 3, 4], [0, 1, 2, 3]]
    assert log.n_items == 5
    assert [list(s) for s in log.training] == [[0, 1, 2], [0, 1]]
    assert list(log.targets("validation")) == [3, 2] and list(log.targets("test")) == [4, 3]
    assert [list(s) for s in log.histories("test")] == [[0, 1, 2, 3], [0, 1, 2]]
    assert log.training_targets(50) == 3 and log.training_targets(1) == 2


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([(0, 0, 0), (0, 1, 1), (0, 2, 2)], "at least four"),
        ([(0, 0, 0), (0, 1, 1), (0, 2, 2), (0, 4, 3)], "item ids must count"),
        ([(1, 0, 0), (1, 1, 1), (1, 2, 2), (1, 3, 3)], "user ids must count"),
    ],
)
def test_read_refuses_what_the_protocol_does_not_fit(tmp_path, rows, message):
    with pytest.raises(ValueError, match=message):
        interactions(tmp_path, rows)


@pytest.mark.parametrize(
    ("scores", "target", "history", "rank"),
    [
        ([5, 4, 3, 2], 2, [], 2),  # two are better
        ([5, 4, 3, 2], 2, [0], 1),  # one of them is in the history
        ([5, 4, 3, 2], 2, [0, 0, 1], 0),  # repeats count once
        ([5, 4, 3, 2], 2, [2], 2),  # the target itself is never dropped
        ([1, 1, 1, 1], 0, [], 2),  # half of three ties, rounded up
        ([1, 1, 1, 1], 0, [3], 1),  # half of two
        ([9, 1, 1, 0], 1, [], 2),  # one better, half of one tie rounded up
        ([1, 0, -math.inf, -math.inf], 2, [], 3),  # an unknown target ties with the other unknown
        ([1, 0, -math.inf, -math.inf], 2, [3], 2),
    ],
)
def test_rank_of_a_hand_made_row(scores, target, history, rank):
    assert rank_targets(np.array([scores], float), np.array([target]), [np.array(history, int)]) == [rank]


def test_rank_refuses_scores_that_are_no_numbers():
    for bad in (math.nan, math.inf):
        with pytest.raises(ValueError, match="NaN or infinite"):
            rank_targets(np.array([[1.0, bad]]), np.array([0]), [[]])
    with pytest.raises(ValueError, match=r"must be \[2, items\]"):
        rank_targets(np.zeros((1, 3)), np.array([0, 1]), [[], []])


def test_ndcg_counts_the_first_ten_ranks():
    assert ndcg(np.array([0])) == 1
    assert ndcg(np.array([1])) == pytest.approx(1 / math.log2(3))
    assert ndcg(np.array([9, 10, 500])) == pytest.approx(1 / math.log2(11) / 3)


@pytest.mark.parametrize("batch", [1, 2, 100])
def test_evaluate_gives_each_batch_its_own_histories(tmp_path, batch):
    """Three users on a ring of items: a score that knows the next item is perfect, one that knows the last is not."""
    log = interactions(tmp_path, [(u, (u + p) % 6, p) for u in range(3) for p in range(6)])
    following = {tuple(h): t for h, t in zip(map(tuple, log.histories("test")), log.targets("test"))}

    def oracle(histories):
        return np.eye(6)[[following[tuple(h)] for h in histories]]

    assert evaluate(oracle, log, "test", batch) == 1
    assert evaluate(lambda h: -oracle(h), log, "test", batch) == 1  # masked: only the target is left of six items
    assert evaluate(lambda h: np.zeros((len(h), 6)), log, "validation", batch) == pytest.approx(1 / math.log2(3))


def test_left_padding_keeps_the_newest():
    assert left_padded([np.array([1, 2, 3]), np.array([4])], 2, padding=0, shift=10).tolist() == [[12, 13], [0, 14]]


def test_quick_data_are_the_first_users_with_items_numbered_anew(tmp_path, monkeypatch):
    log = pd.DataFrame({"user": [0] * 4 + [1] * 4, "item": [7, 3, 9, 5, 0, 1, 2, 4], "position": [0, 1, 2, 3] * 2})
    (tmp_path / "toys").mkdir()
    log.to_parquet(tmp_path / "toys" / "interactions.parquet")
    monkeypatch.setenv("RODPO_DATA", str(tmp_path))
    monkeypatch.setattr("run.BENCH", tmp_path / "bench")
    (sequence,) = read_interactions(export("toys", 1)).sequences
    assert list(sequence) == [2, 0, 3, 1]
    with pytest.raises(SystemExit, match="RODPO_DATA"):
        export("beauty", None)


def epoch(seconds, first=False, peak=100.0):
    return {"task": "epoch", "seconds": seconds, "first": first, "targets": 7, "peak_mib": peak}


def process(lines, library="ours", task="epoch-full", number=0):
    return Process(library=library, task=task, round=number, date="2026-01-01", lines=lines)


def test_summary_is_min_median_max():
    assert summarise([3.0, 1.0, 2.0, 10.0]).model_dump() == {"min": 1, "median": 2.5, "max": 10, "raw": [3, 1, 2, 10]}
    assert summarise([]) is None


def test_first_epochs_count_only_where_there_is_no_other():
    runs = [process([{"settings": {"batch_size": 8, "seed": n}}, epoch(9, True), epoch(4 + n)]) for n in range(3)]
    result = outcome(runs)
    assert result.seconds.raw == [4, 5, 6] and result.first.raw == [9, 9, 9]
    assert result.settings == {"batch_size": 8} and result.facts == {"targets": 7}
    slow = outcome([process([epoch(200, True)]), process([epoch(202, True, peak=300)])])
    assert slow.seconds.median == 201 and slow.first is None and slow.peak_mib.max == 300


def quality(seconds, score, reached):
    return {"seconds": seconds, "ndcg10": score, "reached": reached, "target": 0.05, "peak_mib": 1.0}


def test_quality_counts_the_time_at_which_the_target_was_reached():
    reached = process([quality(1, 0.03, False), quality(2, 0.051, True)], task="quality-full")
    missed = process([quality(1, 0.02, False), quality(9, 0.04, False)], task="quality-full")
    assert outcome([reached, missed]).seconds.raw == [2]
    never = outcome([missed])
    assert never.seconds is None and never.note == "not reached in 9 s: best NDCG@10 0.0400"
    assert never.curves == [[(1, 0.02), (9, 0.04)]]


def test_finished_processes_are_found_again_and_summarised(tmp_path):
    store = Store(tmp_path / "results")
    assert store.get("ours", "epoch-full", 0) is None and not needless(store, "ours", "epoch-full")
    for number in (1, 0):
        store.put(process([{"versions": {"torch": "2"}}, epoch(1 + number)], number=number))
    store.put(process([{"unsupported": "no such loss"}], library="recbole", task="epoch-bce"))
    store.put(process([epoch(30, True)], library="recbole"))
    again = Store(tmp_path / "results")
    assert again.get("ours", "epoch-full", 1).measured()[0]["seconds"] == 2
    assert [p.round for p in again.rounds("ours", "epoch-full")] == [0, 1]
    assert needless(again, "recbole", "epoch-bce") and not needless(again, "ours", "epoch-full")

    found = collect(again, "beauty", threads=2)
    assert set(found) == {"results"}
    results = found["results"]
    assert Results.model_validate_json(results.model_dump_json()) == results
    assert results.versions == {"ours": {"torch": "2"}}
    text = table(results)
    assert "| recbole | 30 (30 to 30; 1) | 20× | 100 |" in text and "| recbole | no such loss | – | – |" in text
    assert text.index("| ours | 1.5 (1 to 2; 2) | 1× | 100 |") < text.index("| recbole | 30")


def test_curves_are_summarised_point_by_point(tmp_path):
    store, line = Store(tmp_path), {"of": "topk", "x": 20}
    for number in range(2):
        lines = [line | {"seconds": 0.1 + number}, line | {"seconds": 0.3}, {"of": "none", "x": 0, "seconds": 0.05}]
        lines = [{"versions": {"torch": "2"}}, *lines]
        store.put(process(lines, library="scaling", task="pool", number=number))
    found = collect(store, "beauty", threads=2)
    assert set(found) == {"curves"}
    results = found["curves"]
    assert results.versions == {"ours": {"torch": "2"}}
    assert [(point.of, point.x, point.seconds.raw) for point in results.curves["pool"]] == [
        ("topk", 20, [0.1, 0.3, 1.1, 0.3]),
        ("none", 0, [0.05, 0.05]),
    ]
    assert "| topk | 20 | 300 (100 to 1.1e+03; 4) |" in table(results)


def test_curves_of_a_gpu_are_kept_apart():
    lines = [{"curve": curve, "of": "linear", "x": 0, "seconds": s} for s in (1.0, 3.0) for curve in accelerator.CURVES]
    found = accelerator.summary([*lines, lines[0] | {"of": "sparse"}], date="2026-01-01", accelerator="Some GPU")
    assert (found["accelerator"], list(found["curves"])) == ("Some GPU", list(accelerator.CURVES))
    assert [point["of"] for point in found["curves"][accelerator.CURVES[0]]] == ["linear", "sparse"]
    assert found["curves"]["cost"][0]["seconds"] == {"min": 1, "median": 2, "max": 3, "raw": [1, 3]}


def test_an_interrupted_write_leaves_the_old_file(tmp_path, monkeypatch):
    store = Store(tmp_path)
    store.put(process([epoch(1)]))
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        store.put(process([epoch(2)]))
    assert store.get("ours", "epoch-full", 0).measured()[0]["seconds"] == 1


def test_machine_is_described():
    here = machine(threads=2)
    assert here.cpu and here.cores >= 1 and here.threads == 2


@pytest.mark.parametrize("task", TASKS)
def test_every_task_is_one_that_adapters_know(task):
    options = arguments(None, [*TASKS[task], "--interactions", "x.csv"])
    assert task in (options.task, f"{options.task}-{options.loss}")


@pytest.mark.parametrize("name", [name for name, library in LIBRARIES.items() if library.environment])
def test_every_peer_is_pinned_and_torch_is_left_to_the_environment(name):
    library = LIBRARIES[name]
    assert (BENCHMARKS / library.script).exists()
    lines = (BENCHMARKS / "peers" / f"{library.environment}.txt").read_text().splitlines()
    pins = [Requirement(line) for line in lines if line and not line.startswith("#")]
    assert all(str(pin.specifier).startswith("==") and not pin.url for pin in pins)
    assert "torch" not in {pin.name for pin in pins} and {"numpy", "setuptools"} <= {pin.name for pin in pins}


def test_adapter_says_what_its_library_lacks(tmp_path):
    run, lines = Run.__new__(Run), []
    run.emit = lambda **line: lines.append(line)
    for asked, reason in (["epoch", "--loss", "bce"], "no loss"), (["evaluate", "--precision", "bf16"], "no bf16"):
        run.options = arguments(None, [*asked, "--interactions", "none.csv"])
        with pytest.raises(SystemExit) as stop:
            run.measure(lambda *_: pytest.fail("built"), lacks={"bce": "no loss", "bf16": "no bf16"})
        assert stop.value.code == 0 and lines.pop() == {"unsupported": reason}


class Model:
    """A model whose epochs take a second each and whose quality rises with them."""

    settings, targets, epochs = {"batch_size": 1}, 7, 0

    def fit(self, after_epoch, steps):
        while True:
            self.epochs += 1
            if after_epoch(1.0):
                return

    def scores(self, histories):  # the validation item of user u is 3 + u, after the items before it
        rows = np.zeros((len(histories), 6))
        rows[np.arange(len(histories)), [h[-1] + (1 if self.epochs > 2 else 0) for h in histories]] = 1
        return rows

    def evaluate(self):
        return 0.5


@pytest.mark.parametrize(
    ("task", "expected"),
    [
        (["epoch", "--repeats", "2"], [("epoch", 1.0, True), ("epoch", 1.0, False)]),
        (["epoch", "--repeats", "9", "--limit-seconds", "3"], [("epoch", 1.0, i == 0) for i in range(3)]),
        (["quality", "--target", "0.9"], [("quality", s, None) for s in (1.0, 2.0, 3.0)]),
        (["quality", "--target", "2", "--limit-seconds", "2"], [("quality", s, None) for s in (1.0, 2.0)]),
    ],
)
def test_adapter_prints_one_line_for_each_epoch_and_stops_in_time(tmp_path, task, expected):
    path = tmp_path / "log.csv"
    path.write_text("user,item,position\n" + "".join(f"{u},{(u + p) % 6},{p}\n" for u in range(2) for p in range(5)))
    run, lines = Run.__new__(Run), []
    run.options = arguments(None, [*task, "--interactions", str(path)])
    run.emit = lambda **line: lines.append(json.loads(json.dumps(line)))
    run.measure(lambda options, log: Model())
    assert [(line["task"], line["seconds"], line.get("first")) for line in lines[1:]] == expected
    assert lines[0]["settings"]["threads"] == 2 and all(line["peak_mib"] > 1 for line in lines[1:])
    if task[0] == "quality":
        assert [line["reached"] for line in lines[1:]] == [i == 2 for i in range(len(expected))]


@pytest.mark.parametrize("curve", ["encoders", "inference", "pool"])
def test_our_own_curves_are_measured(tmp_path, curve):
    random = np.random.default_rng(0)
    rows = [(u, i, p) for u in range(60) for p, i in enumerate(random.permutation(25)[:6])]
    path = tmp_path / "log.csv"
    path.write_text("user,item,position\n" + "".join(f"{u},{i},{p}\n" for u, i, p in rows))
    command = [sys.executable, str(BENCHMARKS / "scaling.py"), curve, "--interactions", str(path), "--repeats", "2"]
    done = subprocess.run([*command, "--threads", "1"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    first, *lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert set(first["versions"]) >= {"torch", "rodpo_lite"}
    of = [(line["of"], line["x"]) for line in lines]
    assert len(of) == 2 * len(set(of)) and of[: len(of) // 2] == of[len(of) // 2 :], "they take turns"
    assert len(set(of)) == {"encoders": 5, "inference": 5, "pool": 11}[curve]
    assert all(line["seconds"] > 0 for line in lines)
