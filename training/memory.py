"""What an exception says about memory: torch reports the same lack in three ways."""

import torch


def out_of_memory(error: BaseException) -> bool:
    """Whether the machine or the GPU had not enough memory. On a CPU torch raises a plain RuntimeError."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "DefaultCPUAllocator" in str(error)
