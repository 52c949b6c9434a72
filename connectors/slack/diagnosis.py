"""`postroom doctor` for Slack: are the tokens taken, and may the app do what it is to do."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from connectors.slack.limits import Limited
from connectors.slack.web import AUTH_CODES, Refused, Unanswered, Web, response_of
from daemon.errors import Unavailable
from daemon.model import Finding, HealthState

SCOPES_HEADER = "x-oauth-scopes"  # what the token may do: on every answer (docs.slack.dev, scopes)
# Without these nothing is answered; without those only what is named is missing.
NEEDED = {
    "app_mentions:read": "mentions are not heard",
    "channels:history": "follow-ups in public channels are not heard",
    "chat:write": "no answer can be posted",
    "im:history": "direct messages are not heard",
    "users:read": "nobody can be told from a stranger",
}
WANTED = {
    "assistant:write": "no status is shown while it works",
    "channels:read": "mentions missed in an outage are not read back",
    "groups:history": "follow-ups in private channels are not heard",
    "groups:read": "mentions missed in private channels are not read back",
    "im:read": "direct messages missed in an outage are not read back",
    "im:write": "notices to a person cannot be sent",
    "mpim:history": "group direct messages are not heard",
    "mpim:read": "mentions missed in group direct messages are not read back",
}
_SCOPES_MEND = (
    'add them under "OAuth & Permissions" (`postroom slack manifest` lists all), and install again'
)
_REACH_MEND = "check the connector's api_url, the network and the proxy"
_BOT_MEND = 'set bot_token to the "Bot User OAuth Token" (xoxb-...) under "OAuth & Permissions"'
_APP_MEND = (
    'set app_token to an app-level token (xapp-...) with connections:write: "Basic Information"; '
    'Socket Mode has to be on under "Socket Mode"'
)


async def diagnose(name: str, web: Web, app_token: str) -> tuple[Finding, ...]:
    """auth.test with its scopes, and apps.connections.open (a ticket; nothing is connected)."""
    bot, app = await asyncio.gather(_try_bot(name, web), _try_app(name, web, app_token))
    return (*bot, app)


async def _try_bot(name: str, web: Web) -> tuple[Finding, ...]:
    part = f"{name}.bot_token"
    try:
        response = await response_of(web.safe.auth_test())
    except (Refused, Unavailable) as error:
        return (_failed(part, error, _BOT_MEND),)
    user, team = response.get("user"), response.get("team")
    found = Finding(part, HealthState.PASS, f"@{user} in {team}")
    return (found, judge_scopes(f"{name}.scopes", response.headers))


def judge_scopes(part: str, headers: Mapping[str, object]) -> Finding:
    """What the token may do, held against what the connector does with it."""
    named = {key.lower(): value for key, value in headers.items()}.get(SCOPES_HEADER)
    if not isinstance(named, str):
        return Finding(part, HealthState.WARN, "Slack did not name the token's scopes", _REACH_MEND)
    granted = {scope.strip() for scope in named.split(",")}
    lacking = [f"{scope} ({why})" for scope, why in NEEDED.items() if scope not in granted]
    missed = [f"{scope} ({why})" for scope, why in WANTED.items() if scope not in granted]
    if lacking or missed:
        state = HealthState.FAIL if lacking else HealthState.WARN
        return Finding(part, state, f"missing: {', '.join(lacking + missed)}", _SCOPES_MEND)
    return Finding(part, HealthState.PASS, "all granted")


async def _try_app(name: str, web: Web, app_token: str) -> Finding:
    part = f"{name}.app_token"
    try:
        response = await response_of(web.safe.apps_connections_open(app_token=app_token))
    except (Refused, Unavailable) as error:
        return _failed(part, error, _APP_MEND)
    if not isinstance(response.get("url"), str):
        return Finding(part, HealthState.FAIL, "apps.connections.open gave no URL", _APP_MEND)
    return Finding(part, HealthState.PASS, "taken; Socket Mode gives connections")


def _failed(part: str, error: Refused | Unavailable, mend: str) -> Finding:
    match error:
        case Refused(code=code) if code in AUTH_CODES:
            return Finding(part, HealthState.FAIL, f"Slack refuses it ({code})", mend)
        case Limited():
            return Finding(part, HealthState.WARN, str(error), "try again in a minute")
        case Unanswered():
            return Finding(part, HealthState.FAIL, str(error), _REACH_MEND)
    return Finding(part, HealthState.FAIL, str(error), mend)
