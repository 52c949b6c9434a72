"""The daemon: what was accepted is registered, worked on in order, answered once, and traced."""
