"""The keys of a `[connectors.NAME]` table with `kind = "slack"`: SURFACE's, no other."""

from __future__ import annotations

from urllib.parse import urlsplit

from pydantic import Field, field_validator

from daemon.plugin import ConnectorTable
from daemon.secret import Secret

LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


class SlackTable(ConnectorTable):
    """`sockets` connections at once: Slack allows ten an app, and a refresh needs one to spare."""

    app_token: Secret
    bot_token: Secret
    api_url: str = "https://slack.com/api/"
    sockets: int = Field(default=2, ge=1, le=8)
    debounce_ms: int = Field(default=300, ge=0, le=10_000)
    answer_public: bool = False

    @field_validator("api_url")
    @classmethod
    def _an_address(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError('write a web address, as "https://slack.com/api/"')
        if parts.scheme == "http" and parts.hostname not in LOOPBACK:
            raise ValueError("plain http only to loopback: the tokens would be readable on the way")
        return value if value.endswith("/") else f"{value}/"
