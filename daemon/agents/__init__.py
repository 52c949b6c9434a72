"""Where agents come from: the ports `Agents` and `Agent`, over the claude CLI and over a script."""
