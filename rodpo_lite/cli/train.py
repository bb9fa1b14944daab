"""`rodpo train` and `rodpo align`."""

import os
from pathlib import Path
from typing import Annotated, Any

import typer
from tqdm import tqdm
from typer.core import TyperCommand

from rodpo_lite.errors import InputError

Data = Annotated[Path, typer.Option("--data", help="dataset folder in the canonical format")]
Out = Annotated[Path, typer.Option("--out", help="run folder to write")]
Preset = Annotated[
    str | None, typer.Option("--preset", help="named keys to start from: hm4sr, the paper's likely base")
]
AlignmentPreset = Annotated[
    str | None, typer.Option("--preset", help="named keys to start from: recommended, what the recorded searches chose")
]
ConfigFile = Annotated[Path | None, typer.Option("--config", help="YAML file with configuration keys")]
Override = Annotated[list[str] | None, typer.Option("-o", metavar="KEY=VALUE", help="set one configuration key")]
Seeds = Annotated[
    str | None,
    typer.Option(
        "--seeds",
        help="train these seeds, as in 1,2,3, side by side; folders then name {seed}. In fp32 each comes out as it "
        "does alone, in bf16 rounding adds up: losses agree within 1 %, metrics less closely",
    ),
]
Resume = Annotated[bool, typer.Option("--resume", help="continue an unfinished run in --out")]


def train(
    data: Data, out: Out, preset: Preset = None, config: ConfigFile = None, override: Override = None,
    seeds: Seeds = None, resume: Resume = False,
) -> None:  # fmt: skip
    """Stage 1: train a reference by next-item cross-entropy over the whole catalogue.

    Example: `rodpo train --data data/amazon/toys --out runs/toys -o seed=1`
    """
    from rodpo_lite.config import ReferenceConfig
    from rodpo_lite.data.schema import read_dataset
    from rodpo_lite.training import runs

    configs = _for_seeds(ReferenceConfig, config, override, seeds, preset)
    outs = _folders("--out", out, configs, seeds)
    _print_best(runs.train_seeds(read_dataset(data), configs, outs, resume, report), outs)


class WithRegistries(TyperCommand):
    """A command whose help ends with every selector and loss, read from the registries when help is asked for."""

    def format_help(self, context: Any, formatter: Any) -> None:
        from rodpo_lite.losses.preference import LOSSES
        from rodpo_lite.sampling.selectors import SELECTORS

        self.epilog = ""
        for key, entries in (("negatives", SELECTORS), ("loss", LOSSES)):
            self.epilog += f"\n\n**{key}.name** is one of\n\n"
            for name, entry in entries.items():
                uses = ", ".join(f"`{key}.{option}`" for option in entry.uses)
                self.epilog += f"- `{key}.name={name}`: {entry.summary}" + (f" Uses {uses}.\n" if uses else "\n")
        super().format_help(context, formatter)


def align(
    data: Data, reference: Annotated[Path, typer.Option("--reference", help="finished run to start from")], out: Out,
    preset: AlignmentPreset = None, config: ConfigFile = None, override: Override = None, seeds: Seeds = None,
    resume: Resume = False,
) -> None:  # fmt: skip
    """Stage 2: align a policy with a preference loss, from a frozen reference.

    Example: `rodpo align --preset recommended --data data/amazon/toys --reference runs/toys --out runs/toys-topk`
    """
    from rodpo_lite.config import AlignmentConfig
    from rodpo_lite.data.planted import Planted
    from rodpo_lite.data.schema import read_dataset
    from rodpo_lite.training import runs

    configs = _for_seeds(AlignmentConfig, config, override, seeds, preset)
    outs = _folders("--out", out, configs, seeds)
    references = _folders("--reference", reference, configs, seeds)
    dataset = read_dataset(data)
    planted = Planted.of(dataset, data)
    records = runs.align_seeds(dataset, references, configs, outs, resume, report, planted=planted)
    _print_best(records, outs)


def _for_seeds(
    kind: type, file: Path | None, override: list[str] | None, seeds: str | None, preset: str | None = None
) -> list[Any]:
    """The configuration of each seed that --seeds names; without it, the configuration."""
    from rodpo_lite.settings import resolve

    if seeds is None:
        return [resolve(kind, file, override, preset)]
    if any(key.startswith("seed=") for key in override or []):
        raise InputError("--seeds and -o seed=… both name the seed; leave one out.")
    named = seeds.split(",")
    if not all(name.isdecimal() for name in named) or len(set(map(int, named))) < len(named):
        raise InputError(f"--seeds {seeds!r} is not a list of different whole numbers, as in 1,2,3.")
    return [resolve(kind, file, [*(override or []), f"seed={name}"], preset) for name in named]


def _folders(option: str, folder: Path, configs: list[Any], seeds: str | None) -> list[Path]:
    """The folder of each configuration: with --seeds, {seed} in its name is replaced by the seed."""
    if seeds is None:
        return [folder]
    if "{seed}" not in str(folder):
        raise InputError(f"With --seeds, {option} names a folder for each: put {{seed}} into {folder}.")
    return [Path(str(folder).replace("{seed}", str(config.seed))) for config in configs]


def report(line: dict[str, Any]) -> None:
    """Print what an epoch brought and how long the rest takes at most, as training may stop early."""
    if os.environ.get("RODPO_QUIET"):
        return
    left = tqdm.format_interval((line["epochs"] - line["epoch"]) * line["epoch_seconds"])
    losses = "  ".join(f"{name} {value:.4f}" for name, value in line.items() if name.startswith(("loss", "margin")))
    valid = f"validation NDCG@5 {line['valid']['ndcg@5']:.5f} (history masked {line['valid_masked']['ndcg@5']:.5f})"
    epoch = f"epoch {line['epoch']:3} of {line['epochs']}  {line['epoch_seconds']:6.1f} s"
    print(f"{epoch}  {losses}  {valid}  at most {left} left", flush=True)


def _print_best(records: list[dict[str, Any]], outs: list[Path]) -> None:
    for record, out in zip(records, outs, strict=True):
        valid = record["valid"]["ndcg@5"]
        print(f"{out}: run {record['config_hash']}, best epoch {record['best_epoch']}, validation NDCG@5 {valid:.5f}")
