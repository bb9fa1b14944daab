"""Random numbers that belong to one training, although torch's layers all draw from the same global generators."""

import torch


class RandomNumbers:
    """Within this context torch's global generators are those of one training, and go on where they were left.

    Outside it they are untouched. Trainings that take turns thus draw the same numbers as one after the other.
    """

    def __init__(self, seed: int, device: torch.device):
        self.generators = {"global": torch.default_generator}
        if device.type == "cuda":
            self.generators["cuda"] = torch.cuda.default_generators[device.index or 0]
        self.states = {
            name: torch.Generator(generator.device).manual_seed(seed).get_state()
            for name, generator in self.generators.items()
        }

    def __enter__(self) -> None:
        self._exchange()

    def __exit__(self, *_) -> None:
        self._exchange()

    def _exchange(self) -> None:
        for name, generator in self.generators.items():
            own, self.states[name] = self.states[name], generator.get_state()
            generator.set_state(own)
