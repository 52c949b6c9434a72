"""The walls around an agent process: plan, launcher, levels, proof, and the care of processes."""
