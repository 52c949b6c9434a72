"""Slack: threads and direct messages in by Socket Mode, answers out by the Web API."""

from __future__ import annotations

from connectors.slack.config import SlackTable
from connectors.slack.manifest import manifest
from daemon.plugin import Plugin, Surroundings
from daemon.ports import Connector


def build(name: str, table: SlackTable, around: Surroundings) -> Connector:
    # Slack's packages take half a second to import: not to check a configuration.
    from connectors.slack.connector import SlackConnector  # noqa: PLC0415

    return SlackConnector(name, table, around)


PLUGIN = Plugin("slack", SlackTable, build, manifest)
