"""The training room: optimizer and schedule, ranks, checkpoints, metrics, the plan. Never parses a command line."""
