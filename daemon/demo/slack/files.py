"""Files: the upload's three steps, `files.info`, and downloads as Slack serves them."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

from aiohttp import web

from daemon.demo.slack import payloads, posting
from daemon.demo.slack.workspace import Channel, RefusedError, StoredFile, Workspace

if TYPE_CHECKING:
    from daemon.demo.slack.arguments import Arguments

Json = dict[str, Any]

LOGIN_PAGE = "<!DOCTYPE html><html><body>Sign in to Slack</body></html>"


def store(
    workspace: Workspace, name: str, content: bytes | None, mimetype: str, user: str
) -> StoredFile:
    file_id = "F" + secrets.token_hex(5).upper()
    stored = StoredFile(file_id, name, name, mimetype, user, content)
    workspace.files[file_id] = stored
    return stored


def get_upload_url(workspace: Workspace, args: Arguments) -> Json:
    name = args.text("filename")
    if not name or args.number("length", 0) <= 0:
        raise RefusedError("invalid_arguments")
    stored = store(workspace, name, None, "application/octet-stream", workspace.bot_user)
    return {"upload_url": f"{workspace.base_url}/upload/v1/{stored.id}", "file_id": stored.id}


def complete_upload(workspace: Workspace, args: Arguments) -> Json:
    """Share uploaded files to a channel, as one message; without a channel they stay private."""
    given = args.nested("files")
    if not isinstance(given, list):
        raise RefusedError("invalid_arguments")
    done = []
    for item in given:
        stored = workspace.files.get(str(item.get("id")))
        if stored is None or stored.content is None:
            raise RefusedError("file_not_found")
        stored.title = str(item.get("title") or stored.name)
        done.append(stored)
    if args.text("channel_id"):
        _share(workspace, args, done)
    return {"files": [payloads.file(workspace, stored) for stored in done]}


def _share(workspace: Workspace, args: Arguments, files: list[StoredFile]) -> None:
    channel = workspace.channel(args.text("channel_id"))
    if workspace.bot_user not in channel.members:
        raise RefusedError("not_in_channel")
    text, ts = args.text("initial_comment"), workspace.next_ts()
    message = payloads.bot_message(workspace, text, ts, args.text("thread_ts") or None)
    attach(workspace, channel, message, files)
    posting.post(workspace, channel, message, by="files.completeUploadExternal")


def attach(workspace: Workspace, channel: Channel, message: Json, files: list[StoredFile]) -> None:
    """Make `message`, not yet posted, one that shares `files`."""
    for stored in files:
        stored.shares.append((channel.id, message["ts"]))
    message |= {
        "subtype": "file_share",
        "upload": True,
        "files": [payloads.file(workspace, stored) for stored in files],
    }


def info(workspace: Workspace, args: Arguments) -> Json:
    stored = workspace.files.get(args.text("file"))
    if stored is None:
        raise RefusedError("file_not_found")
    shape = payloads.file(workspace, stored)
    public: dict[str, list[Json]] = {}
    for channel, ts in stored.shares:
        public.setdefault(channel, []).append({"ts": ts, "team_id": workspace.team})
    return {"file": shape | {"shares": {"public": public}}}


async def upload(workspace: Workspace, request: web.Request) -> web.Response:
    """`POST /upload/v1/ID`: the raw body, or the first file of a form."""
    stored = workspace.files.get(request.match_info["file"])
    if stored is None or stored.content is not None:
        return web.Response(status=404, text="Not found")
    if request.content_type == "multipart/form-data":
        parts = [p for p in (await request.post()).values() if isinstance(p, web.FileField)]
        stored.content = parts[0].file.read() if parts else b""
    else:
        stored.content = await request.read()
    workspace.journal.write("upload", file=stored.id, size=len(stored.content))
    return web.Response(text=f"OK - {len(stored.content)}")


def download(workspace: Workspace, request: web.Request, bot_token: str) -> web.Response:
    """`GET /files-pri/...`: without the bot's token a login page with status 200, as Slack does."""
    file_id = request.match_info["file"].partition("-")[2]
    stored = workspace.files.get(file_id)
    allowed = request.headers.get("Authorization") == f"Bearer {bot_token}"
    workspace.journal.write("download", file=file_id, allowed=allowed)
    if not allowed or workspace.html_downloads:
        return web.Response(text=LOGIN_PAGE, content_type="text/html")
    if stored is None or stored.content is None:
        return web.Response(status=404, text="Not found")
    return web.Response(body=stored.content, content_type=stored.mimetype)
