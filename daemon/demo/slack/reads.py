"""The methods that look: auth.test, team.info, users.info, conversations.*; and their paging."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

from daemon.demo.slack import payloads
from daemon.demo.slack.workspace import Channel, RefusedError, Workspace

if TYPE_CHECKING:
    from daemon.demo.slack.arguments import Arguments

Json = dict[str, Any]

HISTORY_DEFAULT, HISTORY_MAX = 100, 999
LIST_DEFAULT, LIST_MAX = 100, 999
# The first half of the scope that a kind of channel is read by: docs.slack.dev/reference/scopes.
FAMILIES = {"channel": "channels", "group": "groups", "im": "im", "mpim": "mpim"}
TYPES = {"public_channel": "channel", "private_channel": "group", "im": "im", "mpim": "mpim"}
REPLIES_DEFAULT, REPLIES_MAX = 1000, 1000


def auth_test(workspace: Workspace, _args: Arguments) -> Json:
    return {
        "url": f"https://{workspace.domain}.slack.com/",
        "team": workspace.team_name,
        "user": workspace.bot_name,
        "team_id": workspace.team,
        "user_id": workspace.bot_user,
        "bot_id": workspace.bot_id,
        "is_enterprise_install": False,
    }


def team_info(workspace: Workspace, _args: Arguments) -> Json:
    return {
        "team": {
            "id": workspace.team,
            "name": workspace.team_name,
            "domain": workspace.domain,
            "url": f"https://{workspace.domain}.slack.com/",
            "email_domain": "example.com",
            "icon": {"image_34": f"{workspace.base_url}/icon/34.png", "image_default": True},
            "is_verified": False,
        }
    }


def users_info(workspace: Workspace, args: Arguments) -> Json:
    return {"user": payloads.user(workspace, workspace.person(args.text("user")))}


def conversations_info(workspace: Workspace, args: Arguments) -> Json:
    channel = readable(workspace, args, public=True)
    return {"channel": payloads.conversation(workspace, channel)}


def conversations_open(workspace: Workspace, args: Arguments) -> Json:
    """Direct messages with one user, or a conversation by its id; a group is not opened here."""
    if args.text("channel"):
        return {"channel": {"id": workspace.channel(args.text("channel")).id}}
    users = [user for user in args.text("users").split(",") if user]
    if len(users) != 1:
        raise RefusedError("users_list_not_supplied" if not users else "not_enabled")
    return {"channel": {"id": workspace.direct(users[0]).id}}


def users_conversations(workspace: Workspace, args: Arguments) -> Json:
    """Where the bot is a member: public channels, or the `types` that are named."""
    types = (args.text("types") or "public_channel").split(",")
    if not set(types) <= TYPES.keys():
        raise RefusedError("invalid_types")
    kinds = {TYPES[name] for name in types}
    for kind in sorted(kinds):
        _require(workspace, f"{FAMILIES[kind]}:read")
    found = [
        payloads.listed(workspace, channel)
        for channel in workspace.channels.values()
        if channel.kind in kinds and workspace.bot_user in channel.members
        if not (channel.archived and args.flag("exclude_archived"))
    ]
    page, paging = _page(found, args, LIST_DEFAULT, LIST_MAX, key="id")
    return {"channels": page, "response_metadata": paging.get("response_metadata", _LAST)}


_LAST = {"next_cursor": ""}


def _require(workspace: Workspace, scope: str) -> None:
    """Slack names what is needed and what the token has: docs.slack.dev, "missing_scope"."""
    if scope not in workspace.scopes:
        provided = ",".join(workspace.scopes)
        raise RefusedError("missing_scope", needed=scope, provided=provided)


def readable(workspace: Workspace, args: Arguments, *, public: bool = False) -> Channel:
    """The channel whose messages the bot may read; with `public` it need not be a member."""
    channel = workspace.channel(args.text("channel"))
    if workspace.bot_user in channel.members:
        return channel
    if channel.kind != "channel":
        raise RefusedError("channel_not_found")
    if not public:
        raise RefusedError("not_in_channel")
    return channel


def history(workspace: Workspace, args: Arguments) -> Json:
    """Newest first; replies stay in their threads, unless also sent to the channel."""
    channel = readable(workspace, args)
    _require(workspace, f"{FAMILIES[channel.kind]}:history")
    roots = [m for m in channel.messages.values() if _in_channel(m) and _within(m["ts"], args)]
    found = sorted(roots, key=lambda message: _moment(message["ts"]), reverse=True)
    page, paging = _page(found, args, HISTORY_DEFAULT, HISTORY_MAX)
    shown = [_shown(message, args) for message in page]
    answer: Json = {"messages": shown, "pin_count": 0} | paging
    for bound in ("oldest", "latest"):
        if args.text(bound):
            answer[bound] = args.text(bound)
    return answer


def replies(workspace: Workspace, args: Arguments) -> Json:
    """Oldest first. The root leads the first page, whatever `oldest` says, while it exists."""
    channel = readable(workspace, args)
    _require(workspace, f"{FAMILIES[channel.kind]}:history")
    ts = args.text("ts")
    message = channel.messages.get(ts)
    root = message.get("thread_ts", ts) if message else ts
    thread = channel.thread(root)
    if not thread:
        raise RefusedError("thread_not_found")
    found = [m for m in thread if m["ts"] == root or _within(m["ts"], args)]
    page, paging = _page(found, args, REPLIES_DEFAULT, REPLIES_MAX)
    return {"messages": [_shown(message, args) for message in page]} | paging


def _in_channel(message: Json) -> bool:
    threaded = message.get("thread_ts", message["ts"]) != message["ts"]
    return not threaded or message.get("subtype") == "thread_broadcast"


def _shown(message: Json, args: Arguments) -> Json:
    if args.flag("include_all_metadata"):
        return message
    return {name: value for name, value in message.items() if name != "metadata"}


def _moment(ts: str) -> tuple[int, int]:
    """A ts as two whole numbers: a float would lose the last digits."""
    seconds, _, micros = ts.partition(".")
    try:
        return int(seconds or 0), int(micros.ljust(6, "0")[:6] or 0)
    except ValueError:
        raise RefusedError("invalid_arguments") from None


def _within(ts: str, args: Arguments) -> bool:
    at, inclusive = _moment(ts), args.flag("inclusive")
    oldest, latest = args.text("oldest"), args.text("latest")
    if oldest and not (at > _moment(oldest) or (inclusive and at == _moment(oldest))):
        return False
    return not (latest and not (at < _moment(latest) or (inclusive and at == _moment(latest))))


def _page(
    found: list[Json], args: Arguments, default: int, most: int, key: str = "ts"
) -> tuple[list[Json], Json]:
    """One page, and `has_more` with the cursor of the next: the `key` that it begins at."""
    limit = min(max(args.number("limit", default), 1), most)
    start = 0
    if args.text("cursor"):
        try:
            first = base64.b64decode(args.text("cursor"), validate=True).decode()
        except ValueError:
            raise RefusedError("invalid_cursor") from None
        start = next((i for i, m in enumerate(found) if f"next:{m[key]}" == first), -1)
        if start < 0:
            raise RefusedError("invalid_cursor")
    page, rest = found[start : start + limit], found[start + limit :]
    if not rest:
        return page, {"has_more": False}
    cursor = base64.b64encode(f"next:{rest[0][key]}".encode()).decode()
    return page, {"has_more": True, "response_metadata": {"next_cursor": cursor}}
