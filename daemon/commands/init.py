"""`postroom init`: asks what it needs, writes a commented configuration, and checks it."""

from __future__ import annotations

from pathlib import Path

import typer

from daemon import config as configuration
from daemon.errors import WrongUsage

_HEAD = """\
# Postroom. Every key can be overridden by the environment: POSTROOM__TABLE__KEY.
# Check it with `postroom check`, try it with `postroom doctor`, run it with `postroom run`.

[daemon]
data_dir = "data"              # ledger, transcripts, workspaces
listen = "127.0.0.1:8080"      # /livez /readyz /healthz /metrics; elsewhere only with:
# api_token = {{ env = "POSTROOM_API_TOKEN" }}
drain_seconds = 25
notify = [{notify}]            # people who are told of what needs a person: "slack:C0001"

[agent]
model = "claude-sonnet-5"
# system_prompt = "..."        # or system_prompt_file = "prompt.md"
max_turns = 40                 # model steps in one turn
turn_timeout_seconds = 900
# upstream = "bedrock"         # or "vertex": see docs/configuration.md
api_key = {{ env = "ANTHROPIC_API_KEY" }}

[pool]
# max_processes = 8            # unset: from this machine's memory
spare_processes = 1
idle_seconds = 600
memory_limit_mb = 1024
disk_limit_mb = 2048           # of one conversation

[budgets]                      # US dollars; `postroom budgets` shows what is spent, and adds
per_turn = 1.0
per_conversation = 10.0
per_sender_daily = 20.0
daily = 50.0
public_daily = 5.0             # all that strangers can cost together

[trust]
operators = []                 # "slack:TEAM:USER", "mail:ADDRESS"

# [profiles.member]
# tools = ["Read", "Glob", "Grep", "Write", "Edit", "Bash"]
# ask = ["Bash"]               # these wait for an operator: a button, or `postroom approvals`
# egress = ["pypi.org:443"]    # hosts that Bash may reach; none: no network
"""

_SLACK = """
[connectors.slack]
kind = "slack"                 # the app: `postroom slack manifest`
app_token = { env = "SLACK_APP_TOKEN" }
bot_token = { env = "SLACK_BOT_TOKEN" }
answer_public = false          # guests and people of other organisations
"""

_MAIL = """
[connectors.{name}]
kind = "imap"
address = "{address}"
imap = {{ host = "{imap}", port = 993, security = "tls", user = "{address}", password = {{ env = "IMAP_PASSWORD" }} }}
smtp = {{ host = "{smtp}", port = 465, security = "tls", user = "{address}", password = {{ env = "SMTP_PASSWORD" }} }}
mode = "draft"                 # triage | draft | reply
allow = ["*@{domain}"]         # senders who may be answered without a person
# authserv_id = "mx.{domain}"  # whose Authentication-Results header is believed; unset: nobody is
"""


def write(path: Path, *, ask: bool) -> None:
    """Write the file, never over one that is there; say what to do next."""
    if path.exists():
        raise WrongUsage(f"{path} exists already; name another with --path, or edit it")
    text = _asked() if ask else _HEAD.format(notify="") + _SLACK
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600, exist_ok=False)
        path.write_text(text, "utf-8")
    except OSError as error:
        raise WrongUsage(f"{path} cannot be written: {error.strerror}") from error
    configuration.read(path)
    typer.echo(f"wrote {path}, and it is valid")
    typer.echo(f"next: set the secrets that it names, then `postroom doctor -c {path}`")


def _asked() -> str:
    slack = typer.confirm("Answer in Slack?", default=True)
    mail = typer.confirm("Look after a mailbox?", default=not slack)
    if not slack and not mail:
        raise WrongUsage("without Slack and without a mailbox there is nothing to listen to")
    notify = ""
    if slack:
        channel = typer.prompt("Slack channel id to tell of troubles (empty: none)", default="")
        notify = f'"slack:{channel}"' if channel else ""
    text = _HEAD.format(notify=notify)
    if slack:
        text += _SLACK
    if mail:
        address = typer.prompt("The mailbox's address", default="support@example.com")
        domain = address.rpartition("@")[2]
        text += _MAIL.format(
            name="mail",
            address=address,
            domain=domain,
            imap=typer.prompt("Its IMAP server", default=f"imap.{domain}"),
            smtp=typer.prompt("Its SMTP server", default=f"smtp.{domain}"),
        )
    return text
