from __future__ import annotations

import subprocess
import sys

import pytest
from pydantic import ValidationError

from daemon.errors import ConfigError
from daemon.plugin import ConnectorTable, load


@pytest.mark.parametrize("kind", ["slack", "_skeleton"])
def test_a_connector_is_found_by_its_folders_name(kind: str) -> None:
    plugin = load(kind)
    assert issubclass(plugin.table, ConnectorTable)
    with pytest.raises(ValidationError):
        plugin.table.model_validate({"kind": kind, "no_such_key": 1})


@pytest.mark.parametrize("kind", ["telex", "slack.config", "../slack", "", "os", "__init__"])
def test_what_is_no_connector_is_a_fault_of_the_configuration(kind: str) -> None:
    with pytest.raises(ConfigError, match="kind = "):
        load(kind)


def test_slack_brings_the_manifest_of_its_app() -> None:
    manifest = load("slack").manifest
    assert manifest is not None
    assert "socket_mode_enabled: true" in manifest()


def test_only_the_connector_that_is_configured_is_imported() -> None:
    """A broken or missing vendor package of another channel must not be in the way."""
    code = (
        "import sys; from daemon.plugin import load; load('_skeleton'); "
        "print([m for m in sys.modules if m.split('.')[0] in ('slack_bolt', 'aioimaplib')])"
    )
    seen = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={"PATH": "/usr/bin:/bin"},
    )
    assert seen.stdout == "[]\n"
