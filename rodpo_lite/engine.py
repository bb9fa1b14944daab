"""Where and how a run computes: device, precision of matrix products, memory for blocks of scores."""

import ctypes
import os
import platform
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from rodpo_lite.errors import InputError

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}
CPU_INFO = Path("/proc/cpuinfo")  # Linux's; elsewhere no processor is known to be faster in bf16
BUDGET_MIB = {"cpu": 8, "cuda": 256}  # on a CPU a block should stay in cache; on a GPU it should be large


@dataclass(frozen=True)
class Engine:
    """device; dtype of matrix products, which accumulate in fp32 while parameters and everything else stay fp32;
    budget_mib: most memory that a block of scores may take, MiB; None suits the device."""

    device: torch.device
    dtype: torch.dtype = torch.float32
    budget_mib: float | None = None

    @classmethod
    def choose(cls, device: str = "auto", precision: str = "auto", budget_mib: float | None = None) -> "Engine":
        """The engine that the `training` keys ask for; raises InputError if this machine does not have it.

        RODPO_PRECISION says what `auto` means, where that is not for the processor to decide: a run that is compared
        with one on record keeps its configuration, and so its id.
        """
        if device == "cuda" and not torch.cuda.is_available():
            raise InputError("training.device = 'cuda', but this machine has no CUDA device; use auto or cpu.")
        chosen = best_device() if device == "auto" else torch.device(device)
        if chosen.type == "cuda":  # of several processes on a machine each has its own
            chosen = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        if precision == "auto":
            precision = os.environ.get("RODPO_PRECISION") or ("bf16" if has_bf16_products(chosen) else "fp32")
            if precision not in PRECISIONS:
                raise InputError(f"RODPO_PRECISION is {precision!r}; it can be {' or '.join(PRECISIONS)}, or unset.")
        return cls(chosen, PRECISIONS[precision], budget_mib)

    @property
    def precision(self) -> str:
        return next(name for name, dtype in PRECISIONS.items() if dtype == self.dtype)

    def autocast(self) -> torch.autocast:
        """A context in which linear maps and attention multiply in `dtype`."""
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype.itemsize < 4)

    def rows(self, n_items: int) -> int:
        """Rows of scores over the catalogue that fit into the budget, whole 32s where there are as many; at least 1."""
        budget = self.budget_mib or BUDGET_MIB[self.device.type]
        rows = int(budget * 2**20 / (self.dtype.itemsize * n_items))
        return max(1, rows if rows < 32 else rows // 32 * 32)


def stream_seed(seed: int, *stream: str | int) -> int:
    """A seed of 64 bits for one use of random numbers in a run, such as "order": other uses get unrelated ones."""
    name = zlib.crc32(" ".join(map(str, stream)).encode())
    return int(np.random.SeedSequence([seed, name]).generate_state(1, np.uint64)[0])


def rounded_up(count: int) -> int:
    """`count`, at most a 32nd larger, such that few different numbers occur.

    oneDNN, which multiplies bf16 on a CPU, compiles a kernel for each shape that it has not seen lately, and batches of
    whole sequences hardly ever have the same number of positions.
    """
    step = 2 ** max(0, count.bit_length() - 6)
    return -(-count // step) * step


def keep_freed_memory() -> None:
    """Have glibc keep what is freed, up to a GiB at a time, instead of giving it back to the system.

    A training step frees and takes the same large blocks over and over, and taking them from the system costs a page
    fault for every 4 KiB. Other C libraries are left alone.
    """
    if platform.libc_ver()[0] == "glibc":
        mallopt = ctypes.CDLL(None).mallopt
        trim_threshold, mmap_threshold = -1, -3
        mallopt(mmap_threshold, 2**30)
        mallopt(trim_threshold, 2**31 - 1)


def best_device() -> torch.device:
    """CUDA where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def has_bf16_products(device: torch.device) -> bool:
    """Whether the device multiplies bf16 in hardware, and on a CPU also faster than fp32.

    Elsewhere bf16 is emulated. AMX and AMD's vector units multiply bf16 at more than the rate of fp32; with Intel's
    vector units a training epoch was measured to take 1.3 times as long as in fp32.
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    about = CPU_INFO.read_text() if CPU_INFO.is_file() else ""
    return "amx_bf16" in about or ("avx512_bf16" in about and "AuthenticAMD" in about)
