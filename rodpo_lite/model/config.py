"""Configuration of the model."""

from typing import Any, Literal

from pydantic import Field, ValidationInfo, field_validator

from rodpo_lite.settings import Settings


class EncoderConfig(Settings):
    """Sizes and parts of the sequential recommender."""

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
    norm: Literal["pre", "post"] = Field(
        "pre", description="layer norm before each residual branch and at the end, or after each (SASRec, HM4SR)"
    )
    input_norm: bool = Field(False, description="layer norm on what a tower reads, before its dropout (HM4SR)")
    position: Literal["tower", "shared"] = Field(
        "tower",
        description="a position table for each tower, added after the mixtures, or (towers only) one for all, added "
        "before them (HM4SR)",
    )
    id_std: float = Field(0.1, gt=0, le=10, description="standard deviation of the ID embedding before training")
    content_std: float = Field(
        0.02, gt=0, le=10, description="standard deviation of what text and image add before training"
    )
    dropout: float = Field(0.4, ge=0, le=0.99, description="dropout on the input and on every residual branch")
    attention_dropout: float = Field(0.0, ge=0, le=0.99, description="dropout on attention weights (HM4SR)")
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
    categories: bool = Field(False, description="a head for category_prediction")
    unknown_times: float = Field(
        0.0, ge=0, lt=1, description="towers only: share of inputs whose time is left out, at random, in training"
    )

    @field_validator("fusion", "position", "placeholder", "unknown_times", "heads", "experts_per_row")
    @classmethod
    def _fits_what_stands_before(cls, value: Any, info: ValidationInfo) -> Any:
        key, fused = info.field_name, info.data.get("base") == "fused"
        width, experts = info.data.get("width"), info.data.get("experts")  # None where not valid themselves
        if key == "fusion" and fused and value == "interactive":
            raise ValueError("it needs encoder.base = towers; with fused, allowed are linear, mlp, moe")
        if key in ("placeholder", "unknown_times", "position") and fused and value not in (0, "tower"):
            raise ValueError("it needs encoder.base = towers")
        if key == "heads" and width is not None and width % value:
            raise ValueError(f"heads must divide width {width}")
        if key == "experts_per_row" and experts is not None and value > experts:
            raise ValueError(f"at most encoder.experts = {experts} experts can compute a row")
        return value
