"""Who the bot is: auth.test, kept on disk: events are understood while the Web API is down."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from connectors.slack.inbound import Bot
from connectors.slack.web import AUTH_CODES, Refused, Unanswered, Web, answer_of
from daemon.errors import AuthenticationFailed


async def ask(web: Web) -> Bot:
    """Raises AuthenticationFailed, Unavailable."""
    try:
        answer = await answer_of(web.safe.auth_test())
    except Refused as error:
        if error.code in AUTH_CODES:
            raise AuthenticationFailed(
                f"Slack refuses bot_token ({error.code}): it takes the bot user's token (xoxb-...) "
                "of an installed app"
            ) from error
        raise Unanswered(str(error)) from error
    bot = _bot(answer)
    if bot is None:
        raise Unanswered("auth.test named no bot user")
    return bot


def load(path: Path, token: str) -> Bot | None:
    """The bot that was kept for this token, if there is one. Blocking."""
    try:
        kept = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(kept, Mapping) or kept.get("token_sha256") != _digest(token):
        return None
    return _bot(kept)


def save(path: Path, token: str, bot: Bot) -> None:
    """Blocking. The token is not kept, only its digest: another token may mean another bot."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(".new")
    kept = {"team_id": bot.team, "user_id": bot.user, "bot_id": bot.bot, "user": bot.name}
    fresh.write_text(json.dumps(kept | {"token_sha256": _digest(token)}), "utf-8")
    fresh.replace(path)


def _bot(answer: Mapping[str, Any]) -> Bot | None:
    team, user = answer.get("team_id"), answer.get("user_id")
    if not (isinstance(team, str) and team and isinstance(user, str) and user):
        return None
    return Bot(team, user, str(answer.get("bot_id") or ""), str(answer.get("user") or ""))


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
