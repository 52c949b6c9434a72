"""Reading lists of the Web API page by page, within the limits: channels, messages, replies."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

from connectors.slack.limits import Limited, Limiter
from connectors.slack.web import Web, answer_of

PAGE = 200  # what Slack recommends at most: docs.slack.dev/apis/web-api/pagination
PATIENCE_SECONDS = 30.0


class Reading:
    """`team` names the workspace for the limiter, once it is known."""

    def __init__(self, *, web: Web, limiter: Limiter, team: Callable[[], str]) -> None:
        self._web = web
        self._limiter = limiter
        self._team = team

    async def channels(self, kinds: str) -> AsyncIterator[list[Mapping[str, Any]]]:
        """Pages of users.conversations: where the bot is a member, by a comma list of types."""
        async for page in self._pages(
            "users.conversations", "channels", types=kinds, exclude_archived=True
        ):
            yield page

    async def messages(
        self, channel: str, thread: str | None, *, oldest: float, metadata: bool = False
    ) -> AsyncIterator[list[Mapping[str, Any]]]:
        """Pages of a channel (newest first, replies left out) or of a thread (its root, then oldest
        first), from after `oldest`, in seconds since the epoch.
        """
        arguments: dict[str, Any] = {"channel": channel, "oldest": f"{max(oldest, 0):.6f}"}
        if metadata:
            arguments["include_all_metadata"] = True
        method = "conversations.history"
        if thread:
            method, arguments["ts"] = "conversations.replies", thread
        async for page in self._pages(method, "messages", **arguments):
            yield page

    async def _pages(
        self, method: str, items: str, **arguments: Any
    ) -> AsyncIterator[list[Mapping[str, Any]]]:
        """Raises Refused, Limited, Unanswered."""
        call = getattr(self._web.safe, method.replace(".", "_"))
        cursor = None
        while True:
            await self._limiter.enter(self._team(), method, patience=PATIENCE_SECONDS)
            try:
                answer = await answer_of(call(limit=PAGE, cursor=cursor, **arguments))
            except Limited as error:
                self._limiter.close(self._team(), method, "", error.retry_after)
                raise
            found = answer.get(items)
            yield [x for x in found if isinstance(x, Mapping)] if isinstance(found, list) else []
            paging = answer.get("response_metadata")
            cursor = paging.get("next_cursor") if isinstance(paging, Mapping) else None
            if not cursor:
                return
