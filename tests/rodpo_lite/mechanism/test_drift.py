"""Drift of false negatives: against their neighbours, by hand and by brute force."""

import numpy as np
import pytest
import torch

from rodpo_lite.data.batches import PackedSequences
from rodpo_lite.data.planted import Planted
from rodpo_lite.data.split import leave_one_out
from rodpo_lite.mechanism.drift import drift_report, embedding_drift, matched_drift
from rodpo_lite.mechanism.relevance import future_relevance
from rodpo_lite.model.config import EncoderConfig
from rodpo_lite.model.recommender import Recommender, score_matrix
from rodpo_lite.training import runs


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


@pytest.mark.parametrize("exclude", ["past", "train"])
def test_matched_drift_by_brute_force(exclude, world, models):
    policy, reference = models
    future = future_relevance(world)
    notions = {"future": future, "seven": nobody_but(7, world.n_items)}
    split = leave_one_out(world)
    sequences = PackedSequences(world.items, split.start, split.train_end - 1, 12, times=world.timestamps)
    gaps, seen = {}, 0
    for batch in sequences.epoch(500, torch.Generator().manual_seed(0)):
        before, now, wanted = score_matrix(reference, batch), score_matrix(policy, batch), future(batch)
        for position, user in enumerate(batch.user_of_position.tolist()):
            row = int(batch.rows[position])
            end = row + 1 if exclude == "past" else int(split.train_end[user])
            taken = set(world.items[world.offsets[user] : end].tolist()) | {int(world.items[row + 1])}
            ranked = [item for item in before[position].argsort(descending=True).tolist() if item not in taken]
            move = (now - before)[position]
            for place, item in enumerate(ranked):
                if wanted[position, item]:
                    near = ranked[max(0, place - 2) : place] + ranked[place + 1 : place + 3]
                    near = [other for other in near if not wanted[position, other] and other != 7]
                    if near:
                        gaps.setdefault(user, []).append(float(move[item] - move[near].mean()))
        if (seen := seen + len(batch.rows)) >= 700:
            break
    of_user = np.array([np.mean(values) for values in gaps.values()])
    found = matched_drift(policy, reference, world, notions, 12, exclude, positions=700, reach=2)["future"]
    assert found["pairs"] == sum(map(len, gaps.values())) and found["users"] == len(of_user)
    assert found["difference"] == pytest.approx(of_user.mean(), abs=1e-5)
    assert found["standard_error"] == pytest.approx(of_user.std(ddof=1) / len(of_user) ** 0.5, abs=1e-5)


def pushed(reference, item: int, n_items: int):
    """A model like the reference, in which every score of one item is 3 lower."""

    class Pushed(type(reference)):
        def forward(self, batch):
            encoding = reference(batch)
            hidden = torch.cat([encoding.hidden, torch.ones(len(encoding.hidden), 1)], 1)
            push = -3.0 * (torch.arange(n_items) == item)[:, None]
            return encoding._replace(hidden=hidden, vectors=torch.cat([encoding.vectors, push], 1))

    policy = Pushed.__new__(Pushed)
    policy.__dict__.update(reference.__dict__)
    return policy


def test_an_item_that_is_pushed_down_alone_drifts_by_its_push(world, models):
    """It has its push; another item has none, as long as the pushed one is no neighbour but a false negative too."""
    reference = models[1]
    notions = {"pushed": nobody_but(7, world.n_items), "still": nobody_but(8, world.n_items)}
    found = matched_drift(pushed(reference, 7, world.n_items), reference, world, notions, 12)
    assert found["pushed"]["difference"] == pytest.approx(-3, abs=1e-4) and found["pushed"]["standard_error"] < 1e-4
    assert found["still"]["difference"] == pytest.approx(0, abs=1e-4)


def test_planted_false_negatives_are_a_notion(world, models):
    planted = Planted(torch.arange(world.n_users) * world.n_items + 7, torch.full((world.n_users,), 99),
                      torch.as_tensor(world.offsets), world.n_items)  # fmt: skip
    report = drift_report(pushed(models[1], 7, world.n_items), models[1], world, 12, "train", planted)
    assert report["planted"]["difference"] == pytest.approx(-3, abs=1e-4)


def test_without_false_negatives_there_is_nothing_to_report(world, models):
    assert matched_drift(*models, world, {"none": nobody_but(-1, world.n_items)}, 12) == {}


def test_the_report_of_a_run_without_planted_false_negatives(world, models):
    report = drift_report(*models, world, 12, "train")
    assert set(report) == {"items", "future"} and report["items"] > 0 and report["future"]["users"] > 10
    positions = sum(min(12, n) for n in (leave_one_out(world).train_end - leave_one_out(world).start - 1).tolist())
    assert report["future"]["pairs"] <= positions, "under train the validation item is the only one"


def test_noise_of_a_router_is_no_drift(world):
    torch.manual_seed(0)
    model = Recommender.for_dataset(EncoderConfig(width=8, fusion="moe", router_noise=1.0), world).train()
    assert embedding_drift(model, model) == pytest.approx(0, abs=1e-6) and model.training
