"""What an exception says about memory: torch reports the same lack in several ways."""

import torch

# In plain RuntimeErrors: on a CPU, on MPS, and from CUDA's library of products.
WORDS = ("DefaultCPUAllocator", "MPS backend out of memory", "CUBLAS_STATUS_ALLOC_FAILED")


def out_of_memory(error: BaseException) -> bool:
    """Whether the machine or the GPU had not enough memory."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(words in str(error) for words in WORDS)
