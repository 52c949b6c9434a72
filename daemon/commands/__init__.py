"""The commands behind `cli.py` that are more than one call."""
