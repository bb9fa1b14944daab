"""Run configurations: frozen, complete, and hashed to a run id."""

import hashlib
import json
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from rodpo_lite.errors import InputError, shown


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class EncoderConfig(_Frozen):
    """Sizes and parts of the sequential recommender (DESIGN: encoders)."""

    base: Literal["fused", "towers"] = Field(
        "fused", description="one sequence tower over fused item vectors, or one tower per modality (HM4SR)"
    )
    fusion: Literal["linear", "mlp", "moe", "interactive"] = Field(
        "linear",
        description="what text and image add: linear maps (in towers: towers that do not meet), or on top of these an "
        "MLP, a sparse mixture of experts, or (towers only) HM4SR's dense interactive mixture over all modalities",
    )
    feedforward: Literal["dense", "moe"] = Field("dense", description="feed-forward of the Transformer blocks")
    width: int = Field(64, ge=4, le=4096, description="width D of item vectors and hidden states")
    blocks: int = Field(2, ge=1, le=64, description="Transformer blocks")
    heads: int = Field(2, ge=1, le=64, description="attention heads; must divide width")
    id_std: float = Field(0.1, gt=0, le=10, description="standard deviation of the ID embedding before training")
    dropout: float = Field(0.4, ge=0, lt=1, description="dropout on the input and on every residual branch")
    max_length: int = Field(50, ge=1, le=4096, description="most recent items that the encoder sees")
    hidden: int | None = Field(None, ge=1, description="hidden width of the mlp fusion; null is twice the width")
    feedforward_hidden: int | None = Field(
        None, ge=1, description="hidden width of the dense feed-forward; null is four times the width"
    )
    experts: int = Field(8, ge=1, le=1024, description="experts E of every sparse mixture")
    experts_per_row: int = Field(2, ge=1, description="experts k that compute each item or position; at most experts")
    expert_width: int = Field(64, ge=1, description="hidden width of one expert")
    shared_expert: bool = Field(True, description="one more expert that computes every row")
    router_noise: float = Field(0.0, ge=0, description="standard deviation of noise on router logits while training")
    placeholder: bool = Field(False, description="towers only: stand-ins for masked items, for placeholder_contrast")

    @field_validator("fusion")
    @classmethod
    def _fusion_fits_base(cls, fusion: str, info) -> str:
        if fusion == "interactive" and info.data.get("base") == "fused":
            raise ValueError("it needs encoder.base = towers; with fused, allowed are linear, mlp, moe")
        return fusion

    @field_validator("placeholder")
    @classmethod
    def _placeholder_fits_base(cls, placeholder: bool, info) -> bool:
        if placeholder and info.data.get("base") == "fused":
            raise ValueError("it needs encoder.base = towers")
        return placeholder

    @field_validator("heads")
    @classmethod
    def _heads_divide_width(cls, heads: int, info) -> int:
        width = info.data.get("width")
        if width is not None and width % heads:
            raise ValueError(f"heads must divide width {width}")
        return heads

    @field_validator("experts_per_row")
    @classmethod
    def _enough_experts(cls, per_row: int, info) -> int:
        experts = info.data.get("experts")
        if experts is not None and per_row > experts:
            raise ValueError(f"at most encoder.experts = {experts} experts can compute a row")
        return per_row


class TrainingConfig(_Frozen):
    """Optimisation of the reference (stage 1)."""

    epochs: int = Field(25, ge=1, le=10_000, description="length of the cosine schedule")
    learning_rate: float = Field(3e-3, gt=0, description="peak learning rate of AdamW")
    id_learning_rate: float = Field(
        4.0, gt=0, description="learning rate of the ID embedding, as a multiple of that of everything else"
    )
    weight_decay: float = Field(0.01, ge=0, description="decoupled weight decay")
    warmup: float = Field(0.05, ge=0, lt=1, description="share of the steps spent warming up")
    batches_per_epoch: int = Field(48, ge=1, description="steps per epoch; a batch is that share of the positions")
    patience: int = Field(8, ge=1, description="epochs without a better validation NDCG@5 before stopping")
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


class AlignmentTrainingConfig(TrainingConfig):
    """Optimisation of the policy (stage 2): fewer, smaller steps from the reference."""

    epochs: int = Field(6, ge=1, le=10_000, description="length of the cosine schedule")
    learning_rate: float = Field(2e-4, gt=0, description="peak learning rate of AdamW")
    id_learning_rate: float = Field(
        1.0, gt=0, description="learning rate of the ID embedding, as a multiple of that of everything else"
    )
    lambda_ce: float = Field(1.0, ge=0, description="weight of the cross-entropy anchor")
    dropout: bool = Field(True, description="dropout in the policy, hence in the scores that negatives are picked from")


class NegativesConfig(_Frozen):
    """How the rejected item is selected."""

    name: str = Field("topk", description="selector; `none` is the continued cross-entropy control")
    k: int = Field(20, ge=1, description="pool size K")
    n: int = Field(1, ge=1, description="negatives per position, drawn independently")
    exclude: Literal["none", "past", "train"] = Field(
        "train", description="the user's own items that are never selected: none, those so far, all training items"
    )
    refresh: Literal["step", "epoch"] = Field(
        "step",
        description="whose scores rank the pool: the policy's now, or at the start of the epoch (first: uniform)",
    )
    pool: Literal["catalogue", "sample"] = Field(
        "catalogue", description="what is selected from: every item, or the sample of training.loss = sampled"
    )
    temperature: float = Field(1.0, gt=0, description="τ of topk_softmax")
    skip: int = Field(5, ge=0, description="m of rank_window: so many of the best are never selected")
    candidates: int = Field(200, ge=1, description="uniform candidates M of dns and ahns")
    ahns_alpha: float = Field(0.5, gt=0, description="a of ahns")
    ahns_beta: float = Field(0.2, gt=0, description="b of ahns")

    @field_validator("name")
    @classmethod
    def _known(cls, name: str) -> str:
        from rodpo_lite.negatives import SELECTORS

        return _one_of(name, ["none", *SELECTORS])


class LossConfig(_Frozen):
    """The preference loss."""

    name: str = Field("dpo", description="preference loss")
    beta: float = Field(0.5, gt=0, description="strength β of the implicit reward")
    epsilon: float = Field(
        0.1, ge=0, lt=0.5, description="ε of cdpo and rdpo: share of pairs that are the wrong way round"
    )
    gamma: float = Field(0.5, ge=0, description="γ of simpo: the margin that is aimed at")
    beta_prime: float = Field(1.0, gt=0, description="β' of dr_dpo: the smaller, the less a bad pair counts")
    alpha: float = Field(0.6, ge=0, description="α of beta_dpo: how far β follows the batch")
    rho: float = Field(0.2, ge=0, lt=1, description="ρ of beta_dpo: share of the batch that is left out")
    momentum: float = Field(0.9, ge=0, lt=1, description="of beta_dpo's running mean and deviation")

    @field_validator("name")
    @classmethod
    def _known(cls, name: str) -> str:
        from rodpo_lite.losses import LOSSES

        return _one_of(name, list(LOSSES))


class ContrastConfig(_Frozen):
    """HM4SR's contrast of the ID tower with the target's ID, beside the cross-entropy."""

    weight: float = Field(0.0, ge=0, description="weight of the contrast; needs encoder.base = towers")
    temperature: float = Field(0.2, gt=0, description="temperature τ of its cosines")


class PlaceholderConfig(_Frozen):
    """HM4SR's contrast of a history with itself, some of its items replaced by what their times alone say."""

    weight: float = Field(0.0, ge=0, description="weight of the contrast; needs encoder.placeholder = true")
    temperature: float = Field(1.0, gt=0, description="temperature τ of its cosines")
    share: float = Field(0.3, gt=0, le=1, description="share of each history that is replaced")


class ReferenceConfig(_Frozen):
    """Stage 1: next-item cross-entropy over the whole catalogue."""

    stage: Literal["reference"] = "reference"
    seed: int = Field(0, ge=0, le=2**31 - 1)
    encoder: EncoderConfig = EncoderConfig()
    training: TrainingConfig = TrainingConfig()
    id_contrast: ContrastConfig = ContrastConfig()
    placeholder_contrast: PlaceholderConfig = PlaceholderConfig()

    @model_validator(mode="after")
    def _contrasts_have_what_they_need(self):
        if self.id_contrast.weight > 0 and self.encoder.base != "towers":
            raise ValueError("id_contrast.weight above 0 needs encoder.base = towers")
        if self.placeholder_contrast.weight > 0 and not self.encoder.placeholder:
            raise ValueError("placeholder_contrast.weight above 0 needs encoder.placeholder = true")
        return self


class AlignmentConfig(_Frozen):
    """Stage 2: preference alignment from a frozen reference, whose encoder it inherits."""

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


class BaselineConfig(_Frozen):
    """A baseline that trains nothing (baselines.py)."""

    stage: Literal["baseline"] = "baseline"
    name: Literal["popularity", "item_knn", "content_knn"]
    decay: float = Field(ge=0, le=1, description="weight of a history item, to the power of its age")


_OTHER: dict[type, type] = {ReferenceConfig: AlignmentConfig, AlignmentConfig: ReferenceConfig}
_WHERE = {
    ReferenceConfig: "set it with `rodpo align`",
    AlignmentConfig: "set it with `rodpo train`; the policy inherits the encoder from its reference",
}

KINDS: dict[str, type] = {"reference": ReferenceConfig, "align": AlignmentConfig, "baseline": BaselineConfig}
ENGINE_KEYS = ("memory_budget_mib", "precision", "device")

Config = TypeVar("Config", ReferenceConfig, AlignmentConfig)


def _one_of(name: str, allowed: list[str]) -> str:
    if name not in allowed:
        raise ValueError(f"allowed are {', '.join(allowed)}")
    return name


def build(kind: type[Config], values: dict[str, Any]) -> Config:
    """Validate a plain dictionary as a configuration.

    Raises InputError naming the key, the value and what is allowed.
    """
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden" and _belongs_to(_OTHER.get(kind), key):
            raise InputError(f"The key {key!r} belongs to the other stage: {_WHERE[kind]}.") from None
        if first["type"] == "extra_forbidden":
            raise InputError(f"Unknown key {shown(key)}; the keys are {', '.join(keys(kind))}.") from None
        message = first["msg"].removeprefix("Value error, ")
        if not first["loc"]:
            raise InputError(f"{message}.") from None
        raise InputError(
            f"{key} = {shown(first['input'])} is not valid: {message[:1].lower() + message[1:]}."
        ) from None


def keys(kind: type[BaseModel], prefix: str = "") -> list[str]:
    """Every settable key of a configuration, dotted."""
    found = []
    for name, field in kind.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            found += keys(field.annotation, f"{prefix}{name}.")
        elif name != "stage":
            found.append(prefix + name)
    return found


def _belongs_to(kind: type[BaseModel] | None, key: str) -> bool:
    return kind is not None and any(f"{known}.".startswith(f"{key}.") for known in keys(kind))


def experiment(config: dict[str, Any], stage: str) -> dict[str, Any]:
    """What a recorded configuration asks of the method: keys that were added since get their defaults, and the seed and
    what only says where and how it is computed are left out."""
    found = KINDS[stage].model_validate(config).model_dump(mode="json")
    if "training" in found:
        found["training"] = {key: value for key, value in found["training"].items() if key not in ENGINE_KEYS}
    return {key: value for key, value in found.items() if key != "seed"}


def identity(config: BaseModel, **inputs: Any) -> str:
    """The run id: 12 hex digits of SHA-256 over the configuration and what it was applied to."""
    text = json.dumps({"config": config.model_dump(mode="json"), **inputs}, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]
