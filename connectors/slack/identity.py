"""Who the bot is: auth.test, kept on disk: events are understood while the Web API is down."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from connectors.slack import kept
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
    facts = kept.read(path)
    if facts is None or facts.get("token_sha256") != _digest(token):
        return None
    return _bot(facts)


def save(path: Path, token: str, bot: Bot) -> None:
    """Blocking. The token is not kept, only its digest: another token may mean another bot."""
    facts = {"team_id": bot.team, "user_id": bot.user, "bot_id": bot.bot, "user": bot.name}
    kept.write(path, facts | {"token_sha256": _digest(token)})


def _bot(answer: Mapping[str, Any]) -> Bot | None:
    team, user = answer.get("team_id"), answer.get("user_id")
    if not (isinstance(team, str) and team and isinstance(user, str) and user):
        return None
    return Bot(team, user, str(answer.get("bot_id") or ""), str(answer.get("user") or ""))


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
