"""Drift of false negatives: against their neighbours, by hand and by brute force."""

import numpy as np
import pytest
import torch

from rodpo_lite import runs
from rodpo_lite.data.batches import PackedSequences
from rodpo_lite.data.split import leave_one_out
from rodpo_lite.drift import drift_report, embedding_drift, matched_drift
from rodpo_lite.model.scoring import score_matrix
from rodpo_lite.relevance import future_relevance


@pytest.fixture
def models(world, reference_folder):
    """A policy whose item vectors have moved at random, and its reference."""
    policy, reference = (runs.load(reference_folder, world).model for _ in range(2))
    torch.manual_seed(0)
    with torch.no_grad():
        policy.items.id.weight += 0.1 * torch.randn_like(policy.items.id.weight)
    return policy, reference


def nobody_but(wanted: int, n_items: int):
    """A notion of relevance: this item, for everybody."""
    return lambda batch: (torch.arange(n_items) == wanted).expand(len(batch.rows), -1)


def test_embedding_drift_is_zero_at_the_reference_only(world, reference_folder):
    reference, moved = (runs.load(reference_folder, world).model for _ in range(2))
    assert embedding_drift(reference, reference) == pytest.approx(0, abs=1e-6)
    with torch.no_grad():
        moved.items.id.weight[3] += 1.0
    drift = embedding_drift(moved, reference)
    assert drift[3] > 1e-3 and np.delete(drift, 3) == pytest.approx(0, abs=1e-6)


def test_matched_drift_by_brute_force(world, models):
    policy, reference = models
    relevance = future_relevance(world)
    split = leave_one_out(world)
    sequences = PackedSequences(world.items, split.start, split.train_end - 1, 12, times=world.timestamps)
    gaps, seen = {}, 0
    for batch in sequences.epoch(500, torch.Generator().manual_seed(0)):
        before, now, wanted = score_matrix(reference, batch), score_matrix(policy, batch), relevance(batch)
        for position, user in enumerate(batch.user_of_position.tolist()):
            row = int(batch.rows[position])
            taken = set(world.items[world.offsets[user] : row + 1].tolist()) | {int(world.items[row + 1])}
            ranked = [item for item in before[position].argsort(descending=True).tolist() if item not in taken]
            move = (now - before)[position]
            for place, item in enumerate(ranked):
                if wanted[position, item]:
                    near = ranked[max(0, place - 2) : place] + ranked[place + 1 : place + 3]
                    near = [other for other in near if not wanted[position, other]]
                    if near:
                        gaps.setdefault(user, []).append(float(move[item] - move[near].mean()))
        if (seen := seen + len(batch.rows)) >= 700:
            break
    of_user = np.array([np.mean(values) for values in gaps.values()])
    found = matched_drift(policy, reference, world, relevance, 12, positions=700, reach=2)
    assert found["pairs"] == sum(map(len, gaps.values())) and found["users"] == len(of_user)
    assert found["difference"] == pytest.approx(of_user.mean(), abs=1e-5)
    assert found["standard_error"] == pytest.approx(of_user.std(ddof=1) / len(of_user) ** 0.5, abs=1e-5)


def test_an_item_that_is_pushed_down_alone_drifts_by_its_push(world, models):
    """Every score of one item falls by 3: that is its drift, and an item whose neighbours stay has none."""
    _, reference = models

    class Pushed(type(reference)):
        def forward(self, batch):
            encoding = reference(batch)
            hidden = torch.cat([encoding.hidden, torch.ones(len(encoding.hidden), 1)], 1)
            push = -3.0 * (torch.arange(world.n_items) == 7)[:, None]
            return encoding._replace(hidden=hidden, vectors=torch.cat([encoding.vectors, push], 1))

    policy = Pushed.__new__(Pushed)
    policy.__dict__.update(reference.__dict__)
    found = matched_drift(policy, reference, world, nobody_but(7, world.n_items), 12)
    assert found["difference"] == pytest.approx(-3, abs=1e-4) and found["standard_error"] < 1e-4
    assert matched_drift(reference, reference, world, nobody_but(7, world.n_items), 12)["difference"] == 0


def test_without_false_negatives_there_is_nothing_to_report(world, models):
    assert (
        matched_drift(*models, world, lambda batch: torch.zeros(len(batch.rows), world.n_items, dtype=torch.bool), 12)
        == {}
    )


def test_the_report_of_a_run_without_planted_false_negatives(world, models):
    report = drift_report(*models, world, 12)
    assert set(report) == {"items", "future"} and report["items"] > 0 and report["future"]["users"] > 10
