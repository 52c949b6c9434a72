"""The command line. Each command imports what it needs, so that `--help` and a start are quick."""

from __future__ import annotations

import asyncio
import gc
import os
import sys
from datetime import datetime
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from typer._click.exceptions import (  # typer names no public base of what a wrong usage raises
    ClickException,
    NoArgsIsHelpError,
    UsageError,
)

from daemon import config as configuration
from daemon.errors import ConfigError, PostroomError

TRACEBACK = "POSTROOM_TRACEBACK"

app = typer.Typer(
    name="postroom",
    help="Keeps Claude agents on duty behind your Slack and your mailboxes.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
dead_app = typer.Typer(help="What was given up on, and why.", no_args_is_help=True)
conversations_app = typer.Typer(help="Conversations, from a shell.", no_args_is_help=True)
approvals_app = typer.Typer(help="Calls that wait for a person's word.", no_args_is_help=True)
audit_app = typer.Typer(help="Who asked, decided and did what, provably.", no_args_is_help=True)
budgets_app = typer.Typer(help="What may be spent, and what has been.", no_args_is_help=True)
slack_app = typer.Typer(help="Set-up of the Slack app.", no_args_is_help=True)
app.add_typer(dead_app, name="dead")
app.add_typer(conversations_app, name="conversations")
app.add_typer(approvals_app, name="approvals")
app.add_typer(audit_app, name="audit")
app.add_typer(budgets_app, name="budgets")
app.add_typer(slack_app, name="slack")

ConfigFile = Annotated[
    Path | None,
    typer.Option("-c", "--config", help="Else POSTROOM_CONFIG, else ./postroom.toml."),
]
Json = Annotated[bool, typer.Option("--json", help="Machine-readable.")]


@app.command()
def run(config: ConfigFile = None) -> None:
    """Run the daemon until SIGTERM or SIGINT."""
    gc.disable()  # until all is loaded: nothing is garbage yet, and looking for it costs a tenth
    from daemon import app as application
    from daemon import logs, secrecy

    os.umask(0o077)  # what the daemon writes is its own
    secrecy.keep_memory()
    checked = configuration.read(config)
    redactor = logs.set_up(checked.daemon.log_level, checked.daemon.log_format)
    secrecy.wipe_environment(configuration.named_in_environment(checked))
    redactor.learn(configuration.load_secrets(checked))
    logs.catch_crashes()
    reread = application.Reread(lambda: configuration.read(config), redactor.learn)
    raise typer.Exit(asyncio.run(application.run(checked, reread, os.environ)))


@app.command()
def check(config: ConfigFile = None) -> None:
    """Validate the configuration; no I/O beyond reading it."""
    path = configuration.find(config, os.environ)
    configuration.read(config)
    typer.echo(f"{path or 'the environment'}: fine")


@app.command()
def doctor(
    config: ConfigFile = None,
    json: Json = False,
    live: Annotated[bool, typer.Option(help="Also make one tiny model call.")] = False,
) -> None:
    """Try each part; each line is ok, warn or fail, with its mend."""
    from daemon.commands.doctor import examine

    raise typer.Exit(asyncio.run(examine(config, as_json=json, live=live)))


@app.command()
def init(
    path: Annotated[Path, typer.Option(help="Where to write.")] = Path("postroom.toml"),
    yes: Annotated[bool, typer.Option("--yes", help="Ask nothing; take the defaults.")] = False,
) -> None:
    """Write a commented configuration, asking what it needs, and check it."""
    from daemon.commands.init import write

    write(path, ask=not yes)


@app.command()
def status(
    config: ConfigFile = None,
    json: Json = False,
    check: Annotated[
        bool, typer.Option("--check", help="Say nothing; exit 0 while the daemon lives, else 1.")
    ] = False,
) -> None:
    """The running daemon at a glance. Exit 1 when it is not ready."""
    from daemon.commands.reading import check_alive, show_status

    if check:
        raise typer.Exit(check_alive(configuration.read(config)))
    raise typer.Exit(show_status(configuration.read(config), as_json=json))


@app.command()
def trace(any_id: str, config: ConfigFile = None, json: Json = False) -> None:
    """The whole story of one message, turn or effect, by our id or the outside's."""
    from daemon.commands.reading import show_trace

    raise typer.Exit(show_trace(configuration.read(config), any_id, as_json=json))


@dead_app.command("list")
def dead_list(config: ConfigFile = None, json: Json = False) -> None:
    """Everything that was given up on."""
    from daemon.commands.reading import show_dead

    raise typer.Exit(show_dead(configuration.read(config), as_json=json))


@dead_app.command("show")
def dead_show(any_id: str, config: ConfigFile = None, json: Json = False) -> None:
    """One dead letter with its story."""
    from daemon.commands.reading import show_trace

    raise typer.Exit(show_trace(configuration.read(config), any_id, as_json=json))


@dead_app.command("retry")
def dead_retry(any_id: str, config: ConfigFile = None) -> None:
    """Try a dead letter again, as new."""
    from daemon.commands.reading import ask

    ask(configuration.read(config), "dead", any_id, "retry")


@dead_app.command("discard")
def dead_discard(any_id: str, config: ConfigFile = None) -> None:
    """Give a dead letter up for good; its trace stays."""
    from daemon.commands.reading import ask

    ask(configuration.read(config), "dead", any_id, "discard")


@conversations_app.command("list")
def conversations_list(config: ConfigFile = None, json: Json = False) -> None:
    """The latest conversations."""
    from daemon.commands.reading import show_conversations

    raise typer.Exit(show_conversations(configuration.read(config), as_json=json))


@conversations_app.command("show")
def conversations_show(conversation: str, config: ConfigFile = None, json: Json = False) -> None:
    """One conversation: its messages and answers."""
    from daemon.commands.reading import show_conversation

    raise typer.Exit(show_conversation(configuration.read(config), conversation, as_json=json))


@conversations_app.command("stop")
def conversations_stop(conversation: str, config: ConfigFile = None) -> None:
    """End the turn that runs in a conversation."""
    from daemon.commands.reading import ask

    ask(configuration.read(config), "conversations", conversation, "stop")


@conversations_app.command("erase")
def conversations_erase(
    who: Annotated[str, typer.Argument(help="A conversation's id, or a sender's.")],
    config: ConfigFile = None,
) -> None:
    """Remove what a conversation or a person left; keys against duplicates stay."""
    from daemon.commands.reading import ask

    ask(configuration.read(config), "conversations", who, "erase")


@audit_app.command("verify")
def audit_verify(
    config: ConfigFile = None,
    json: Json = False,
    anchor: Annotated[
        list[str] | None,
        typer.Option(help="SEQ:HASH of the log's `audit.anchored`; may be given again."),
    ] = None,
) -> None:
    """Walk the whole chain of records. Exit 1 where one is changed or missing."""
    from daemon.commands.audit import verify

    raise typer.Exit(verify(configuration.read(config), anchor or [], as_json=json))


@audit_app.command("export")
def audit_export(
    config: ConfigFile = None,
    after: Annotated[int, typer.Option(help="Only the records behind this number.")] = 0,
    names: Annotated[bool, typer.Option("--names", help="Say whom the aliases mean.")] = False,
) -> None:
    """Print the records as JSON lines, oldest first."""
    from daemon.commands.audit import export

    raise typer.Exit(export(configuration.read(config), after=after, with_names=names))


@approvals_app.command("list")
def approvals_list(config: ConfigFile = None, json: Json = False) -> None:
    """The calls that wait, each with what it would be made with."""
    from daemon.commands.reading import show_approvals

    raise typer.Exit(show_approvals(configuration.read(config), as_json=json))


@approvals_app.command("approve")
def approvals_approve(any_id: str, config: ConfigFile = None) -> None:
    """Let exactly this call be made, once."""
    from daemon.commands.reading import ask

    ask(configuration.read(config), "approvals", any_id, "approve")


@approvals_app.command("deny")
def approvals_deny(any_id: str, config: ConfigFile = None) -> None:
    """Have this call not made; the agent is told."""
    from daemon.commands.reading import ask

    ask(configuration.read(config), "approvals", any_id, "deny")


@budgets_app.command("list")
def budgets_list(config: ConfigFile = None, json: Json = False) -> None:
    """Every budget that has a limit and is in use: what is spent of it, and what is left."""
    from daemon.commands.budgets import show

    show(configuration.read(config), as_json=json)


@budgets_app.command("raise")
def budgets_raise(
    budget: Annotated[str, typer.Argument(help="As `postroom budgets list` names it.")],
    dollars: Annotated[float, typer.Argument(min=0.01, help="US dollars more.")],
    until: Annotated[
        datetime | None,
        typer.Option(
            formats=["%Y-%m-%d"],
            help="The last day of it (UTC). Unset: today; for a conversation, for good.",
        ),
    ] = None,
    config: ConfigFile = None,
) -> None:
    """Add to one budget's limit; what waits for it goes on at once."""
    from daemon.commands.budgets import add

    add(configuration.read(config), budget, dollars, until)


@slack_app.command("manifest")
def slack_manifest() -> None:
    """The Slack app manifest to paste."""
    from daemon.plugin import load

    manifest = load("slack").manifest
    if manifest is None:
        raise ConfigError("the Slack connector brings no manifest")
    typer.echo(manifest(), nl=False)


@app.command()
def backup(path: Path, config: ConfigFile = None) -> None:
    """A consistent copy of the ledger and the transcripts, while running."""
    from daemon.commands.backup import back_up

    asyncio.run(back_up(configuration.read(config), path))


@app.command()
def demo(
    once: Annotated[bool, typer.Option("--once", help="End after the day.")] = False,
    live: Annotated[bool, typer.Option("--live", help="The real model, with your key.")] = False,
    port: Annotated[int, typer.Option(help="Of the health pages; 0: any.")] = 0,
) -> None:
    """The whole daemon with stand-ins: no key, no Slack, no mailbox."""
    from daemon.demo.show import play

    raise typer.Exit(asyncio.run(play(once=once, live=live, port=port)))


@app.command()
def version() -> None:
    """Versions of all parts."""
    from daemon.versions import versions

    for name, text in versions().items():
        typer.echo(f"{name:18} {text}")


def main() -> None:
    """Run a command; whatever goes wrong is one line with the next step, and its exit status."""
    try:
        sys.exit(app(standalone_mode=False))
    except NoArgsIsHelpError as error:
        error.show()
        sys.exit(error.exit_code)
    except ClickException as error:
        where = (
            error.ctx.command_path if isinstance(error, UsageError) and error.ctx else "postroom"
        )
        _end(f"{error.format_message()} See `{where} --help`.", error.exit_code)
    except typer.Abort:
        _end("stopped; nothing was done", 1)
    except PostroomError as error:
        _end(str(error), error.exit_code)
    except BrokenPipeError:
        sys.exit(0)
    except Exception as error:
        if TRACEBACK in os.environ:
            raise
        what = f"internal error: {type(error).__name__}: {error}"
        _end(f"{what}; set {TRACEBACK}=1 to see where, and report it", PostroomError.exit_code)


def _end(text: str, status: int) -> NoReturn:
    from daemon.logs import hidden

    sys.stderr.write(f"postroom: {' '.join(hidden(text).split())}\n")
    sys.exit(status)
