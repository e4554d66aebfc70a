"""Parts of a training loop: the runner, checkpoints, moving averages of weights, and the monitor."""
