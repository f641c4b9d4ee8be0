"""Which precision matrix products run in: asked here by all who make an operand, so that it is rounded once."""

import torch
from torch import Tensor


def compute_dtype(operand: Tensor) -> torch.dtype:
    """Autocast's precision where it is on, else the operand's own."""
    device = operand.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else operand.dtype
