"""Connectors: one folder per channel. Each exports `PLUGIN`; the daemon loads them by kind."""
