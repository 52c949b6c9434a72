"""Reading a Web API call's arguments: query, form or JSON; Slack takes all three."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from daemon.demo.slack.workspace import RefusedError

if TYPE_CHECKING:
    from aiohttp import web

Json = dict[str, Any]


class Arguments:
    """The arguments of one call, without its token."""

    def __init__(self, given: Json) -> None:
        self.given = given

    def text(self, name: str) -> str:
        value = self.given.get(name)
        return "" if value is None else str(value)

    def flag(self, name: str) -> bool:
        return str(self.given.get(name, "")).lower() in ("1", "true")

    def number(self, name: str, default: int) -> int:
        try:
            return int(self.given.get(name, default))
        except (TypeError, ValueError):
            raise RefusedError("invalid_arguments") from None

    def nested(self, name: str) -> Any:
        """An object or a list, which forms and queries carry as JSON text; None if absent."""
        value = self.given.get(name)
        if isinstance(value, str) and value:
            try:
                return json.loads(value)
            except ValueError:
                raise RefusedError("invalid_arguments") from None
        return value or None


async def read(request: web.Request) -> tuple[str, Arguments]:
    """The token, "" if none, and the arguments. Raises RefusedError `invalid_json`."""
    given: Json = dict(request.query)
    if request.method == "POST":
        if request.content_type == "application/json":
            try:
                body = json.loads(await request.text() or "{}")
            except ValueError:
                raise RefusedError("invalid_json") from None
            if not isinstance(body, dict):
                raise RefusedError("json_not_object")
            given |= body
        else:
            given |= {k: v for k, v in (await request.post()).items() if isinstance(v, str)}
    token = str(given.pop("token", ""))
    scheme, _, bearer = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        token = bearer.strip()
    return token, Arguments(given)
