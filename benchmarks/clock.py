"""What the two libraries on Lightning share: a quiet trainer and a clock for the training loop."""

import time
from typing import Any


def quiet(precision: str) -> dict[str, Any]:
    """Arguments of a trainer that only trains."""
    return {
        "precision": {"fp32": "32-true", "bf16": "bf16-mixed"}[precision],
        "accelerator": "cpu",
        "devices": 1,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }


class EpochClock:
    """Times the training loop of each epoch and asks whether to go on; to be mixed into a Lightning `Callback`."""

    def __init__(self, after_epoch) -> None:
        self._after_epoch = after_epoch

    def on_train_epoch_start(self, trainer: Any, module: Any) -> None:
        self._began = time.perf_counter()

    def on_train_epoch_end(self, trainer: Any, module: Any) -> None:
        trainer.should_stop = self._after_epoch(time.perf_counter() - self._began)
