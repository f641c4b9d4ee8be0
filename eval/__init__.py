"""How good is a checkpoint, which is better, how sure: losses, intervals, answers, the page. Trains nothing."""
