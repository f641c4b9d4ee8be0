"""What every room shares: one-line errors, safe files, the run folder. Knows no data, no tensors."""
