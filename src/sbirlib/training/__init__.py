"""Training: plan, steps and run, with rules, objective, checkpoints, logs and gathering across processes."""
