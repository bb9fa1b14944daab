"""The configuration of a run: what the families declare beside their registries, put together for each stage."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from rodpo_lite.engine import Engine
from rodpo_lite.evaluation import metrics
from rodpo_lite.evaluation.baselines import BaselineConfig
from rodpo_lite.losses.auxiliary import CategoryConfig, ContrastConfig, PlaceholderConfig
from rodpo_lite.losses.preference import LossConfig
from rodpo_lite.model.config import EncoderConfig
from rodpo_lite.sampling.selectors import NegativesConfig
from rodpo_lite.settings import Settings, keys, one_of

LAST = "last"  # the epoch that is kept, whatever it validates


def _measures() -> list[str]:
    return [prefix + name for prefix in ("", "masked.") for name in sorted(metrics.NAMES)] + [LAST]


class TrainingConfig(Settings):
    """Optimisation of the reference (stage 1)."""

    epochs: int = Field(25, ge=1, le=10_000, description="most epochs, and length of the cosine schedule")
    learning_rate: float = Field(3e-3, gt=0, description="peak learning rate of AdamW")
    id_learning_rate: float = Field(
        4.0, gt=0, description="learning rate of the ID embedding, as a multiple of that of everything else"
    )
    weight_decay: float = Field(0.01, ge=0, description="decoupled weight decay")
    schedule: Literal["cosine", "constant"] = Field("cosine", description="of the learning rate after warming up")
    warmup: float = Field(0.05, ge=0, lt=1, description="share of the steps spent warming up")
    batches_per_epoch: int = Field(48, ge=1, description="steps per epoch; a batch is that share of the positions")
    batch_positions: int | None = Field(
        None, ge=1, description="positions in a batch, about so many, in place of training.batches_per_epoch"
    )
    select_by: Annotated[str, one_of(_measures)] = Field(
        "ndcg@5",
        description="validation metric of the epoch that is kept; with `masked.` before it, history dropped; `last` is "
        "the last epoch",
    )
    patience: int = Field(8, ge=1, description="epochs without a better one before stopping")
    balance_weight: float = Field(0.01, ge=0, description="weight of the load-balance loss of sparse mixtures")
    z_weight: float = Field(0.001, ge=0, description="weight of the router z-loss of sparse mixtures")
    loss: Literal["full", "sampled", "bce"] = Field(
        "full",
        description="cross-entropy over the whole catalogue, or over a sample that a step shares (for large ones), or "
        "binary cross-entropy against one uniform item a position (the original SASRec)",
    )
    sampled: int = Field(512, ge=1, description="items in the sample of loss = sampled")
    sampled_exponent: float = Field(
        0.75, ge=0, le=1, description="they are drawn in proportion to (training interactions + 1) to this power"
    )
    memory_budget_mib: int | None = Field(
        None, ge=1, description="most memory that a block of scores may take, MiB; null is 8 on a CPU, 256 on a GPU"
    )
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "auto", description="of matrix products in training; auto takes bf16 where it is faster"
    )
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto takes CUDA where there is one")

    def engine(self) -> Engine:
        """Where and how to compute; raises InputError if this machine does not have it."""
        return Engine.choose(self.device, self.precision, self.memory_budget_mib)


class AlignmentTrainingConfig(TrainingConfig):
    """Optimisation of the policy (stage 2): fewer, smaller steps from the reference."""

    epochs: int = Field(6, ge=1, le=10_000, description="length of the cosine schedule")
    learning_rate: float = Field(2e-4, gt=0, description="peak learning rate of AdamW")
    id_learning_rate: float = Field(
        1.0, gt=0, description="learning rate of the ID embedding, as a multiple of that of everything else"
    )
    lambda_ce: float = Field(1.0, ge=0, description="weight of the cross-entropy anchor")
    dropout: bool = Field(True, description="dropout in the policy, hence in the scores that negatives are picked from")


class _StageConfig(Settings):
    """A stage: a key of the other stage has an error of its own, other than that of an unknown key."""

    where_else: ClassVar[str]

    @classmethod
    def about_unknown(cls, key: str) -> str:
        (other,) = {ReferenceConfig, AlignmentConfig} - {cls}
        if any(f"{known}.".startswith(f"{key}.") for known in keys(other)):
            return f"The key {key!r} belongs to the other stage: {cls.where_else}."
        return super().about_unknown(key)


class ReferenceConfig(_StageConfig):
    """Stage 1: next-item cross-entropy over the whole catalogue."""

    where_else = "set it with `rodpo align`"
    stage: Literal["reference"] = "reference"
    seed: int = Field(0, ge=0, le=2**31 - 1)
    encoder: EncoderConfig = EncoderConfig()
    label_smoothing: float = Field(
        0.0, ge=0, lt=1, description="share of each target that is spread evenly over the catalogue"
    )
    training: TrainingConfig = TrainingConfig()
    id_contrast: ContrastConfig = ContrastConfig()
    placeholder_contrast: PlaceholderConfig = PlaceholderConfig()
    category_prediction: CategoryConfig = CategoryConfig()

    @model_validator(mode="after")
    def _auxiliary_terms_have_what_they_need(self):
        if self.label_smoothing > 0 and self.training.loss != "full":
            raise ValueError("label_smoothing above 0 needs training.loss = full")
        if self.id_contrast.weight > 0 and self.encoder.base != "towers":
            raise ValueError("id_contrast.weight above 0 needs encoder.base = towers")
        if self.placeholder_contrast.weight > 0 and not self.encoder.placeholder:
            raise ValueError("placeholder_contrast.weight above 0 needs encoder.placeholder = true")
        if self.category_prediction.weight > 0 and not self.encoder.categories:
            raise ValueError("category_prediction.weight above 0 needs encoder.categories = true")
        return self


class AlignmentConfig(_StageConfig):
    """Stage 2: preference alignment from a frozen reference, whose encoder it inherits."""

    where_else = "set it with `rodpo train`; the policy inherits the encoder from its reference"
    stage: Literal["align"] = "align"
    seed: int = Field(0, ge=0, le=2**31 - 1)
    training: AlignmentTrainingConfig = AlignmentTrainingConfig()
    negatives: NegativesConfig = NegativesConfig()
    loss: LossConfig = LossConfig()

    @model_validator(mode="after")
    def _something_to_learn(self):
        if self.negatives.name == "none" and self.training.lambda_ce == 0:
            raise ValueError("negatives.name = none with training.lambda_ce = 0 leaves nothing to train on")
        if self.training.loss == "bce":
            raise ValueError("training.loss = bce is for a reference; an alignment takes full or sampled")
        if self.negatives.pool == "sample" and self.training.loss != "sampled":
            raise ValueError("negatives.pool = sample needs training.loss = sampled")
        if self.negatives.pool == "sample" and self.negatives.name == "srns":
            raise ValueError("srns remembers its own candidates, so it needs negatives.pool = catalogue")
        return self


KINDS: dict[str, type] = {"reference": ReferenceConfig, "align": AlignmentConfig, "baseline": BaselineConfig}
ENGINE_KEYS = ("memory_budget_mib", "precision", "device")


def experiment(config: dict[str, Any], stage: str) -> dict[str, Any]:
    """A recorded configuration without seed and engine (where and how to compute); keys added since have defaults."""
    settings = KINDS[stage].model_validate(config).model_dump(mode="json")
    if "training" in settings:
        settings["training"] = {key: value for key, value in settings["training"].items() if key not in ENGINE_KEYS}
    return {key: value for key, value in settings.items() if key != "seed"}
