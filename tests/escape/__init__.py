"""The escape matrix: each attack at each level of isolation, by the real CLI's own Bash."""
