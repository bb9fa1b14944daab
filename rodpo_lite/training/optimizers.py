"""What changes the weights: AdamW, SparseAdam for a large table of IDs, and the schedules of their learning rate."""

import math
from collections.abc import Callable

import torch

from rodpo_lite.config import TrainingConfig
from rodpo_lite.model.recommender import Recommender


class AdamW(torch.optim.AdamW):
    """torch's own, whose every step tells torch's compiler to keep out; the import of that alone takes seconds."""

    step = torch.no_grad()(getattr(torch.optim.Adam.step, "__wrapped__", torch.optim.Adam.step))


def _spare_the_compiler() -> None:
    """Leave it out of the other methods of optimizers, too; a torch that does not know this mark imports it as ever."""
    for method in vars(torch.optim.Optimizer).values():
        if (function := getattr(method, "__wrapped__", None)) and not hasattr(function, "__dynamo_disable"):
            vars(function)["__dynamo_disable"] = function


def optimizers(model: Recommender, training: TrainingConfig) -> list[torch.optim.Optimizer]:
    """AdamW, with an own learning rate for the ID embedding; SparseAdam, without decay, if its gradient is sparse."""
    _spare_the_compiler()
    embedding = model.items.id
    others = [parameter for parameter in model.parameters() if parameter is not embedding.weight]
    other_group = {"params": others, "initial_lr": training.learning_rate}
    id_group = {"params": [embedding.weight], "initial_lr": training.learning_rate * training.id_learning_rate}
    dense = [other_group] if embedding.sparse else [id_group, other_group]
    adam = AdamW(dense, weight_decay=training.weight_decay, fused=True)
    return [adam, torch.optim.SparseAdam([id_group])] if embedding.sparse else [adam]


def cosine(steps: int, warmup: float) -> Callable[[int], float]:
    """Linear warm-up over the first share of the steps, then half a cosine down to zero."""
    rising = max(1, round(steps * warmup))

    def factor(step: int) -> float:
        if step < rising:
            return (step + 1) / rising
        return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - rising) / max(1, steps - rising))))

    return factor


def constant(steps: int, warmup: float) -> Callable[[int], float]:
    """Linear warm-up over the first share of the steps, then 1."""
    rising = max(1, round(steps * warmup))
    return lambda step: min(1.0, (step + 1) / rising)


SCHEDULES = {"cosine": cosine, "constant": constant}
