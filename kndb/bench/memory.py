"""The most memory that work held at once."""

from __future__ import annotations

import re
import resource
import sys
from pathlib import Path

import torch

CLEAR_PEAK, PEAK = Path("/proc/self/clear_refs"), Path("/proc/self/status")
"""Where Linux forgets and tells a process's peak memory."""


def reset_peak_memory(device: torch.device) -> None:
    """Forgets the peak so far, where the system can."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif CLEAR_PEAK.exists():
        CLEAR_PEAK.write_text("5", encoding="ascii")


def peak_memory(device: torch.device) -> float:
    """The peak since then in GiB: of the process on a CPU, of the device's allocations on a GPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    if PEAK.exists():
        found = re.search(r"^VmHWM:\s+(\d+) kB$", PEAK.read_text(encoding="ascii"), re.MULTILINE)
        if found is not None:
            return int(found[1]) / 2**20
    unit = 1 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30
