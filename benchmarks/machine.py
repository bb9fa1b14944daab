"""The machine that a benchmark ran on, and who else used it."""

import os
import platform
import resource
import time
from pathlib import Path

from results import Machine

# What decides how fast products are.
FLAGS = ("avx2", "avx512f", "avx512_bf16", "avx512_vnni", "amx_tile", "amx_bf16", "asimd", "bf16", "sve")


def machine(threads: int) -> Machine:
    """CPU, memory and instruction sets as /proc tells them, and less where there is none."""
    about = _fields("/proc/cpuinfo")
    flags = (about.get("flags") or about.get("Features") or "").split()
    memory = _fields("/proc/meminfo").get("MemTotal", "0 kB").split()[0]
    return Machine(
        cpu=about.get("model name") or platform.processor() or platform.machine(),
        cores=os.cpu_count() or 0,
        memory_gib=round(int(memory) / 2**20, 1),
        flags=[flag for flag in FLAGS if flag in flags],
        system=f"{platform.system()} {platform.machine()}",
        threads=threads,
    )


def _fields(path: str) -> dict[str, str]:
    """`name: value` lines of a file in /proc, the last of each name."""
    try:
        lines = Path(path).read_text().splitlines()
    except OSError:
        return {}
    return {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}


class Neighbours:
    """Around a child process: how many `cores` were busy with something else, None where /proc does not tell.

    Threads that wait for one another by spinning, as OpenMP's do, lose far more than the share that others take.
    """

    cores: float | None = None

    def __enter__(self) -> "Neighbours":
        self._before = self._now()
        return self

    def __exit__(self, *exception: object) -> None:
        wall, busy, own = (after - before for before, after in zip(self._before, self._now()))
        if busy:
            self.cores = round(max(0.0, busy - own) / wall, 2)

    @staticmethod
    def _now() -> tuple[float, float, float]:
        return time.perf_counter(), _busy(), _children()


def _busy() -> float:
    """CPU seconds of all cores since start, 0 where there is no /proc."""
    try:
        ticks = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]
    except OSError:
        return 0.0
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, ticks)
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def _children() -> float:
    """CPU seconds of this process and of its children that have ended."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)
