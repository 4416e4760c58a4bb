"""Every option with its default of the paper, checks, the experiments."""
