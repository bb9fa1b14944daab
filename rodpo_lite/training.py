"""One loop for both stages: the reference (cross-entropy) and the alignment (preference loss plus anchor)."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rodpo_lite import checkpoint, metrics
from rodpo_lite.config import AlignmentConfig, ReferenceConfig
from rodpo_lite.data.batches import PackedBatch, PackedSequences
from rodpo_lite.data.schema import Dataset
from rodpo_lite.data.split import leave_one_out
from rodpo_lite.losses import LOSSES, margin
from rodpo_lite.model.scoring import Recommender, full_cross_entropy, pair_scores, rows_within, score_blocks
from rodpo_lite.negatives import SELECTORS, OwnedItems, Selection, exclusions, mask_excluded
from rodpo_lite.ranking import rank_dataset

Report = Callable[[dict[str, Any]], None]
Objective = Callable[[PackedBatch], dict[str, Tensor]]
PRIMARY = "ndcg@5"


class TrainingDiverged(RuntimeError):
    """The loss stopped being finite; says at which epoch and step."""


@dataclass
class Trainer:
    """Trains `model` on `objective` with AdamW and a cosine schedule, and keeps the epoch that validates best.

    objective maps a packed batch to named scalar losses, of which `loss` is minimised. `folder` receives
    `history.jsonl` and a checkpoint after every epoch; a run killed at any point continues from there to the same
    weights. `seed` fixes the batch order, dropout and every draw from `generator`.
    """

    model: Recommender
    objective: Objective
    dataset: Dataset
    config: ReferenceConfig | AlignmentConfig
    max_length: int
    folder: Path
    generator: torch.Generator
    report: Report = lambda epoch: None
    progress: Callable[..., Any] = lambda batches, **_: batches
    history: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self):
        split, training = leave_one_out(self.dataset), self.config.training
        self.device = self.generator.device
        # The last training item of a user has no successor to predict, so inputs end one before it.
        self.sequences = PackedSequences(
            self.dataset.items, split.start, split.train_end - 1, self.max_length, self.device
        )
        self.order = torch.Generator().manual_seed(self.config.seed)
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=training.learning_rate, weight_decay=training.weight_decay, fused=True
        )
        self.batch_positions = self.sequences.n_positions / training.batches_per_epoch
        self.steps_per_epoch = self.sequences.n_batches(self.batch_positions)
        self.best: dict[str, Tensor] = {}

    def fit(self, resume: bool) -> dict[str, Any]:
        """Train to the end or until patience runs out; returns the best epoch's line of the history.

        The model ends with the best epoch's weights. Raises TrainingDiverged if a loss is not finite.
        """
        with torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []):
            torch.manual_seed(self.config.seed)
            if resume:
                self._restore()
            for epoch in range(len(self.history) + 1, self.config.training.epochs + 1):
                if epoch - self._best_line().get("epoch", epoch) > self.config.training.patience:
                    break
                self._epoch(epoch)
        self.model.load_state_dict(self.best)
        return self._best_line()

    def _epoch(self, epoch: int) -> None:
        started = time.perf_counter()
        losses = self._train_epoch(epoch)
        seconds = time.perf_counter() - started
        try:
            ranks = rank_dataset(
                self.model, self.dataset, "valid", self.max_length, self.config.training.memory_budget_mib
            )
        except ValueError as error:
            raise TrainingDiverged(f"After epoch {epoch}, {error}; lower training.learning_rate.") from None
        line = {
            "epoch": epoch,
            "epoch_seconds": round(seconds, 3),
            **losses,
            "valid": metrics.from_ranks(ranks.unmasked),
            "valid_masked": metrics.from_ranks(ranks.masked),
        }
        if not self.best or line["valid"][PRIMARY] > self._best_line()["valid"][PRIMARY]:
            self.best = {name: value.detach().clone() for name, value in self.model.state_dict().items()}
        self.history.append(line)
        self._save()
        self.report(line)

    def _train_epoch(self, epoch: int) -> dict[str, float]:
        self.model.train()
        sums: dict[str, Tensor] = {}
        training, done = self.config.training, (epoch - 1) * self.steps_per_epoch
        rate = cosine(self.steps_per_epoch * training.epochs, training.warmup)
        batches = self.sequences.epoch(self.batch_positions, self.order)
        for step, batch in enumerate(self.progress(batches, total=self.steps_per_epoch, desc=f"epoch {epoch}")):
            for group in self.optimizer.param_groups:
                group["lr"] = training.learning_rate * rate(done + step)
            losses = self.objective(batch)
            if not bool(torch.isfinite(losses["loss"])):
                raise TrainingDiverged(
                    f"The loss is not finite at epoch {epoch}, step {step + 1}; lower training.learning_rate."
                )
            self.optimizer.zero_grad(set_to_none=True)
            losses["loss"].backward()
            self.optimizer.step()
            for name, value in losses.items():
                sums[name] = sums.get(name, 0.0) + value.detach() * len(batch.items)
        return {name: float(total) / self.sequences.n_positions for name, total in sums.items()}

    def _best_line(self) -> dict[str, Any]:
        return max(self.history, key=lambda line: line["valid"][PRIMARY], default={})

    def _save(self) -> None:
        optimizer = self.optimizer.state_dict()["state"]
        tensors = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        tensors |= {f"best.{name}": value for name, value in self.best.items()}
        tensors |= {f"optimizer.{i}.{name}": value for i, state in optimizer.items() for name, value in state.items()}
        tensors |= {f"generator.{name}": generator.get_state() for name, generator in self._generators().items()}
        checkpoint.write_tensors(self.folder / checkpoint.CHECKPOINT, tensors, {"history": self.history})
        checkpoint.write_history(self.folder, self.history)

    def _restore(self) -> None:
        path = self.folder / checkpoint.CHECKPOINT
        if not path.exists():
            return
        tensors, state = checkpoint.read_tensors(path)
        checkpoint.load_weights(self.model, _under("model.", tensors), path)
        self.best = {name: value.to(self.device) for name, value in _under("best.", tensors).items()}
        for name, generator in self._generators().items():
            generator.set_state(tensors[f"generator.{name}"])
        moments: dict[int, dict[str, Tensor]] = {}
        for key, value in _under("optimizer.", tensors).items():
            index, name = key.split(".", 1)
            moments.setdefault(int(index), {})[name] = value
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": moments, "param_groups": groups})
        self.history = state["history"]
        checkpoint.write_history(self.folder, self.history)

    def _generators(self) -> dict[str, Any]:
        named: dict[str, Any] = {"order": self.order, "selection": self.generator, "global": torch.default_generator}
        if self.device.type == "cuda":
            named["cuda"] = torch.cuda.default_generators[self.device.index or 0]
        return named


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def cosine(steps: int, warmup: float) -> Callable[[int], float]:
    """Linear warm-up over the first share of the steps, then half a cosine down to zero."""
    rising = max(1, round(steps * warmup))

    def factor(step: int) -> float:
        if step < rising:
            return (step + 1) / rising
        return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - rising) / max(1, steps - rising))))

    return factor


def reference_objective(model: Recommender, dataset: Dataset, config: ReferenceConfig) -> Objective:
    """Stage 1: next-item cross-entropy over the whole catalogue, at every position."""
    items = torch.as_tensor(dataset.items, device=next(model.parameters()).device)
    rows = rows_within(config.training.memory_budget_mib, dataset.n_items)

    def objective(batch: PackedBatch) -> dict[str, Tensor]:
        hidden, vectors = model(batch)
        return {"loss": full_cross_entropy(hidden, vectors, items[batch.rows + 1], rows)}

    return objective


def alignment_objective(
    policy: Recommender, reference: Recommender, dataset: Dataset, config: AlignmentConfig, generator: torch.Generator
) -> Objective:
    """Stage 2: L = L_pref(βh) + λ_ce L_ce, the negative selected from the policy's own scores.

    With `negatives.name = none` only λ_ce L_ce is left: the continued cross-entropy control.
    """
    device = generator.device
    items = torch.as_tensor(dataset.items, device=device)
    rows = rows_within(config.training.memory_budget_mib, dataset.n_items)
    split = leave_one_out(dataset)
    owned = OwnedItems.of_training(dataset.items, split.start, split.train_end, dataset.n_items, device)
    chosen, lambda_ce = config.negatives, config.training.lambda_ce
    select, loss = SELECTORS.get(chosen.name), LOSSES[config.loss.name]
    reference.requires_grad_(False).eval()

    def objective(batch: PackedBatch) -> dict[str, Tensor]:
        positives = items[batch.rows + 1]
        hidden, vectors = policy(batch)
        if select is None:
            anchor = full_cross_entropy(hidden, vectors, positives, rows)
            return {"loss": lambda_ce * anchor, "loss_ce": anchor}
        excluded = exclusions(chosen.exclude, batch.user_of_position, batch.rows, positives, owned)
        negatives = torch.empty(len(positives), chosen.n, dtype=torch.long, device=device)

        def observe(block: slice, scores: Tensor) -> None:
            selection = Selection(mask_excluded(scores, excluded[block]), excluded[block], chosen.k, chosen.n)
            negatives[block] = select(selection, generator)

        if lambda_ce > 0:
            anchor = full_cross_entropy(hidden, vectors, positives, rows, observe)
        else:
            anchor = hidden.new_zeros(())
            for block, scores in score_blocks(hidden, vectors, rows):
                observe(block, scores)
        with torch.no_grad():
            reference_hidden, reference_vectors = reference(batch)
            offset = [pair_scores(reference_hidden, reference_vectors, pair) for pair in (positives, negatives)]
        h = margin(pair_scores(hidden, vectors, positives), pair_scores(hidden, vectors, negatives), *offset)
        preference = loss(h, config.loss.beta).mean()
        return {
            "loss": preference + lambda_ce * anchor,
            "loss_preference": preference,
            "loss_ce": anchor,
            "margin": h.detach().mean(),
        }

    return objective
