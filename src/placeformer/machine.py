"""The machine a network is trained on."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from pathlib import Path

import torch


def hardware(device: torch.device) -> str:
    """Name the processor and the threads used, or the accelerator and any lower precision."""
    if device.type == "cuda":
        fast = torch.get_float32_matmul_precision() != "highest"
        rounded = ", float32 products in TensorFloat-32" if fast else ""
        return f"one {torch.cuda.get_device_name(device)}, torch {torch.__version__}{rounded}"
    threads = torch.get_num_threads()
    return (
        f"{threads} processor core{'s' if threads > 1 else ''} ({processor()}), "
        f"torch {torch.__version__}"
    )


def processor() -> str:
    """Model name of the processor, as far as the system tells."""
    info = Path("/proc/cpuinfo")
    lines: Sequence[str] = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
