"""One call of the Web API, from its request to its answer: token, faults, limits, method."""

from __future__ import annotations

import asyncio
import copy
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from aiohttp import web

from daemon.demo.slack import arguments, chat, files, reads, surfaces
from daemon.demo.slack.arguments import Arguments
from daemon.demo.slack.faults import Fault, Limits, Plan
from daemon.demo.slack.workspace import RefusedError, Workspace

if TYPE_CHECKING:
    from daemon.demo.slack.sockets import Sockets

Json = dict[str, Any]
Method = Callable[[Workspace, Arguments], Json]

METHODS: dict[str, Method] = {
    "auth.test": reads.auth_test,
    "team.info": reads.team_info,
    "users.conversations": reads.users_conversations,
    "users.info": reads.users_info,
    "conversations.info": reads.conversations_info,
    "conversations.open": reads.conversations_open,
    "conversations.history": reads.history,
    "conversations.replies": reads.replies,
    "chat.postMessage": chat.post_message,
    "chat.postEphemeral": chat.post_ephemeral,
    "chat.update": chat.update,
    "chat.delete": chat.delete,
    "chat.startStream": chat.start_stream,
    "chat.appendStream": chat.append_stream,
    "chat.stopStream": chat.stop_stream,
    "reactions.add": surfaces.add_reaction,
    "reactions.remove": surfaces.remove_reaction,
    "assistant.threads.setStatus": surfaces.set_status,
    "assistant.threads.setSuggestedPrompts": surfaces.set_suggested_prompts,
    "assistant.threads.setTitle": surfaces.set_title,
    "agents.sessions.setStatus": surfaces.set_session_status,
    "views.publish": surfaces.publish_view,
    "views.open": surfaces.open_view,
    "views.update": surfaces.update_view,
    "files.getUploadURLExternal": files.get_upload_url,
    "files.completeUploadExternal": files.complete_upload,
    "files.info": files.info,
}


class WebApi:
    """`/api/METHOD`. HTTP 200 with `ok: false` for what Slack refuses, as Slack does."""

    def __init__(
        self,
        workspace: Workspace,
        sockets: Sockets,
        *,
        app_token: str,
        bot_token: str,
        limits: bool,
    ) -> None:
        self.plan = Plan()
        self.limits: Limits | None = Limits() if limits else None
        self._workspace = workspace
        self._sockets = sockets
        self._app_token = app_token
        self._bot_token = bot_token
        self._healed = asyncio.Event()

    def heal(self) -> None:
        """Forget all faults; calls that hang are let go."""
        self.plan = Plan()
        self._healed.set()
        self._healed = asyncio.Event()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        began = time.monotonic()
        method = request.match_info["method"]
        try:
            token, args = await arguments.read(request)
        except RefusedError as refusal:
            return web.json_response({"ok": False, "error": refusal.code})
        fault = self.plan.take(method) or Fault()
        if fault.delay:
            await asyncio.sleep(fault.delay)
        status, result, headers = 0, Json(), dict[str, str]()
        performed = fault.answer == "normal" or fault.performed
        if performed:
            status, result, headers = self._call(method, token, args)
        self._workspace.journal.write(
            "call",
            method=method,
            args=args.given,
            status=status if fault.answer == "normal" else fault.status,
            result=copy.deepcopy(result),  # a stored message in it may change later
            performed=performed,
            answer=fault.answer,
            seconds=round(time.monotonic() - began, 6),
        )
        if fault.answer == "normal":
            return web.json_response(result, status=status, headers=headers)
        return await self._fail(request, fault)

    async def _fail(self, request: web.Request, fault: Fault) -> web.StreamResponse:
        if fault.answer == "error":
            return web.json_response({"ok": False, "error": fault.code})
        if fault.answer == "html":
            return web.Response(text=files.LOGIN_PAGE, content_type="text/html")
        if fault.answer == "status":
            headers = {} if fault.retry_after is None else {"Retry-After": str(fault.retry_after)}
            if fault.status == 429:
                body = {"ok": False, "error": "ratelimited"}
                return web.json_response(body, status=429, headers=headers)
            return web.Response(status=fault.status, text="upstream failure", headers=headers)
        if fault.answer == "hang":
            await self._healed.wait()
        if request.transport:
            request.transport.abort()
        return web.Response()

    def _call(self, method: str, token: str, args: Arguments) -> tuple[int, Json, dict[str, str]]:
        try:
            self._admit(method, token)
            wait = self._wait(method, args)
            if wait:
                limited = {"ok": False, "error": "ratelimited"}
                return 429, limited, {"Retry-After": str(wait)}
            scopes = {"X-OAuth-Scopes": ",".join(self._scopes(token))}
            return 200, {"ok": True} | self._perform(method, args), scopes
        except RefusedError as refusal:
            return 200, {"ok": False, "error": refusal.code, **refusal.more}, {}

    def _admit(self, method: str, token: str) -> None:
        if not token:
            raise RefusedError("not_authed")
        if token not in (self._app_token, self._bot_token):
            raise RefusedError("invalid_auth")
        wanted = self._app_token if method == "apps.connections.open" else self._bot_token
        if token != wanted:
            raise RefusedError("not_allowed_token_type")

    def _scopes(self, token: str) -> list[str]:
        """Of the token of a call: Slack names them with each answer."""
        return ["connections:write"] if token == self._app_token else self._workspace.scopes

    def _wait(self, method: str, args: Arguments) -> int:
        if self.limits is None:
            return 0
        channel = args.text("channel") or args.text("channel_id")
        return self.limits.wait(method, channel, args.text("thread_ts"))

    def _perform(self, method: str, args: Arguments) -> Json:
        if method == "apps.connections.open":
            address = self._workspace.base_url.replace("http", "ws", 1)
            return {"url": f"{address}/link?ticket={self._sockets.ticket()}"}
        if method not in METHODS:
            raise RefusedError("unknown_method")
        return METHODS[method](self._workspace, args)
