"""The machine that a run computes on: its threads and determinism, its memory, and how many runs it has room for."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import torch

from cm3t.config import PROFILES, RunConfig

MEMORY = 3 * 2**30  # bytes that a run on the embedded benchmark may take, its decoded clips included


def at_once(configs: Sequence[RunConfig]) -> int:
    """How many of these runs go side by side, a process each; 1 where they had better follow one another.

    Choice: a small network gains little from a second thread (1.2 times) and two runs beside each other much (1.7
    times), so that small networks whose clips fit in memory get as many runs as torch has threads and memory allows.
    Others, and runs on a GPU, take the whole machine in turn, and so do those of profiles with threads of their own.
    """
    alone = any(
        PROFILES[config.profile].threads or config.workers is not None or not config.backbone.endswith("_mini")
        for config in configs
    )
    if alone or torch.cuda.is_available():
        return 1
    return max(1, min(len(configs), torch.get_num_threads(), psutil.virtual_memory().available // MEMORY))


@contextmanager
def reproducible(config: RunConfig) -> Iterator[None]:
    """The profile's threads and determinism and the run's seed, for the length of a run."""
    threads, strict = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    torch.set_num_threads(threads_of(config))
    torch.use_deterministic_algorithms(PROFILES[config.profile].deterministic, warn_only=True)
    torch.manual_seed(config.seed)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(strict)


def threads_of(config: RunConfig) -> int:
    """Threads that a run computes with: the profile's, or as torch finds."""
    return PROFILES[config.profile].threads or torch.get_num_threads()


@contextmanager
def peak_memory(info: dict, device: torch.device) -> Iterator[None]:
    """Writes the peak memory of what runs inside to info["peak_memory_mb"]: of the GPU, else of the process.

    The process's peak includes the decoded clips. Only Linux can start it anew for each run; on Windows it is the
    peak since the process began, on macOS what the process holds at the end.
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif Path("/proc/self/clear_refs").exists():
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")
    try:
        yield
    finally:
        info["peak_memory_mb"] = round(_peak_bytes(device) / 2**20)


def _peak_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    for line in lines:
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    memory = psutil.Process().memory_info()
    return getattr(memory, "peak_wset", memory.rss)


def device_name(device: torch.device) -> str:
    """What a record calls the device."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
