"""How many parameters a model has and uses, and the dense twin of a sparse mixture."""

from typing import NamedTuple

from torch import nn

from rodpo_lite.model.config import EncoderConfig
from rodpo_lite.model.experts import SparseExperts


class ParameterCounts(NamedTuple):
    """Parameters of a model: all of them; those left when each mixture counts k of its E routed experts; routers.

    Embedding tables count whole in `total` and `active`, and routers count in both.
    """

    total: int
    active: int
    routers: int


def parameter_counts(model: nn.Module) -> ParameterCounts:
    """Count the parameters of a model, in total and as one item or position uses them."""
    total = _size(model)
    mixtures = [module for module in model.modules() if isinstance(module, SparseExperts)]
    idle = sum((len(m.experts) - m.per_row) * _size(m.experts[0]) for m in mixtures)
    return ParameterCounts(total, total - idle, sum(_size(m.router) for m in mixtures))


def dense_twin(config: EncoderConfig) -> EncoderConfig:
    """The encoder with an MLP in place of each sparse mixture, of the hidden width (k + shared) expert_width.

    The twin has exactly the active parameters of the mixtures, their routers (E D_in each) left out.
    """
    hidden = (config.experts_per_row + config.shared_expert) * config.expert_width
    changes = {}
    if config.fusion == "moe":
        changes |= {"fusion": "mlp", "hidden": hidden}
    if config.feedforward == "moe":
        changes |= {"feedforward": "dense", "feedforward_hidden": hidden}
    return config.model_copy(update=changes)


def _size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
