from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from daemon import config
from daemon.budgets import Limits
from daemon.errors import ConfigError

SLACK = """
[connectors.slack]
kind = "slack"
app_token = { env = "SLACK_APP_TOKEN" }
bot_token = { env = "SLACK_BOT_TOKEN" }
"""


MAILBOX_WITHOUT_SMTP = """
[daemon]
notify = ["mail:a@example.com"]
[connectors.support]
kind = "imap"
address = "support@example.com"
imap = { host = "imap.example.com", port = 993, user = "u", password = { env = "P" } }
"""


NOTES = "[mcp.notes]\ncommand = ['notes']\n"


def read(text: str, tmp_path: Path, **environ: str) -> config.Config:
    path = tmp_path / "postroom.toml"
    path.write_text(text)
    return config.read(path, environ)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[daemon]\ndata_dri = 'x'", "daemon.data_dri: there is no such key"),
        ("[deamon]\nx = 1", "deamon: there is no such key"),
        ("[pool]\nmax_processes = 'many'", "pool.max_processes: "),
        ("[agent]\napi_key = 'sk-ant-123'", "agent.api_key: a secret is never in the file"),
        ("[budgets]\nper_conversation = -5", "budgets.per_conversation: "),
        (
            "[profiles.member]\ntools=['Read']\nask = ['Bash']",
            "profiles.member.ask: 'Bash' is not among the profile's tools",
        ),
        ("[profiles.member]\ntools=[]\nask = ['bash']", "profiles.member.ask.0: "),
        (
            "[profiles.public]\ntools = ['Write', 'Read']",
            "profiles.public.tools: untrusted input, private data, outside effects would meet",
        ),
        (
            "[isolation]\nlevel = 'none'",
            'without a person; write ask = ["Bash"] in that table, or take these tools out',
        ),
        (
            "[profiles.member]\ntools=['Bash']\negress = ['pypi.org:443']",
            'write ask = ["Bash"] in that table, or take these tools or egress out',
        ),
        (
            "[profiles.operator]\ntools=['Read']\negress = ['pypi.org:443']",
            'profiles.operator.egress: only Bash goes out by it: add "Bash" to tools',
        ),
        (
            "[profiles.operator]\ntools=['Bash']\negress = ['pypi.org']",
            "profiles.operator.egress: 'pypi.org': write \"HOST:PORT\"",
        ),
        (
            (
                "[isolation]\nlevel = 'none'\n[profiles.member]\ntools=[]\n"
                "[profiles.operator]\ntools=['Bash']\negress = ['pypi.org:443']"
            ),
            "profiles.operator.egress: at isolation.level none nothing keeps a shell to a list",
        ),
        (
            "[profiles.operator]\ntools=['bash']",
            "profiles.operator.tools.0: 'bash': write one of Read, ",
        ),
        (
            "[profiles.operator]\ntools=['mcp__notes__add']",
            "profiles.operator.tools: mcp__notes__add: there is no table mcp.notes",
        ),
        (NOTES, "mcp.notes: no profile has a tool of it; name one among its tools"),
        (
            NOTES + "only_read = { add = 'why not' }\n"
            "[profiles.operator]\ntools=['mcp__notes__count']",
            "mcp.notes.only_read: no profile has its tool 'add'",
        ),
        (
            NOTES + "only_read = { count = ' ' }\n[profiles.operator]\ntools=['mcp__notes__count']",
            "mcp.notes.only_read: count: say why it changes nothing",
        ),
        (
            NOTES + "env = { KEY = 'sk-123' }\n[profiles.operator]\ntools=['mcp__notes__count']",
            "mcp.notes.env.KEY: a secret is never in the file",
        ),
        (
            NOTES + "[profiles.member]\ntools=['mcp__notes__add']",
            'write ask = ["mcp__notes__add"] in that table, or take these tools out',
        ),
        (
            "[mcp.postroom]\ncommand = ['notes']\n[profiles.operator]\ntools=['mcp__postroom__x']",
            "profiles.operator.tools.0: 'mcp__postroom__x': write one of",
        ),
        ("[isolation]\nlevel = 'gvisor'", "isolation.level: 'gvisor' comes with a later version"),
        ("[ledger]\nurl = 'postgresql://x'", "ledger.url: PostgreSQL comes with a later version"),
        ("[daemon]\nlisten = '0.0.0.0:80'", "daemon.listen: only a loopback address"),
        ("[daemon]\nnotify = ['mail:a@example.com']", "daemon.notify: 'mail:a@example.com' needs"),
        (
            MAILBOX_WITHOUT_SMTP,
            "daemon.notify: 'mail:a@example.com' needs a connector of kind 'imap' with smtp",
        ),
        ("[connectors.x]\nkind = 'telepathy'", "connectors.x: kind = 'telepathy'"),
        ("[connectors.slack]\nkind='slack'\napp_token={env='A'}", "connectors.slack.bot_token: "),
        ("not toml", "postroom.toml: "),
    ],
)
def test_a_fault_names_table_and_key(text: str, told: str, tmp_path: Path) -> None:
    whole = text if "connectors" in text or text == "not toml" else text + SLACK
    with pytest.raises(ConfigError) as caught:
        read(whole, tmp_path)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 78


@pytest.mark.parametrize(
    "text",
    [
        "[profiles.public]\ntools = ['Write']",
        "[profiles.operator]\ntools = ['Bash']\negress = ['PyPI.org:443', '*.example.org:443']",
        "[profiles.member]\ntools = ['Bash']\nask = ['Bash']\negress = ['pypi.org:443']",
        NOTES + "[profiles.operator]\ntools = ['Bash', 'mcp__notes__add']",
        NOTES + "[profiles.member]\ntools = ['mcp__notes__add']\nask = ['mcp__notes__add']",
        NOTES + "only_read = { count = 'it counts' }\n"
        "[profiles.member]\ntools = ['Read', 'mcp__notes__count']",
        "[profiles.public]\ntools = ['Read', 'Bash']\nask = ['Bash', 'Read']",
        "[isolation]\nlevel = 'none'\n[profiles.member]\ntools = ['Read', 'Bash']\nask = ['Bash']",
        "[profiles.member]\ntools = ['Read', 'Bash']",
    ],
)
def test_a_person_in_between_or_a_power_less_is_fine(text: str, tmp_path: Path) -> None:
    read(text + SLACK, tmp_path)


def test_the_environment_overrides_a_value(tmp_path: Path) -> None:
    found = read(
        SLACK, tmp_path, POSTROOM__POOL__MAX_PROCESSES="3", POSTROOM__DAEMON__DATA_DIR="/d"
    )
    assert (found.pool.max_processes, found.daemon.data_dir) == (3, Path("/d"))


def test_two_tokens_in_the_environment_are_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = config.read(None, {"SLACK_APP_TOKEN": "xapp-1", "SLACK_BOT_TOKEN": "xoxb-1"})
    assert [table.kind for table in found.connectors.values()] == ["slack"]


def test_nothing_to_listen_to_says_the_next_step(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="postroom init"):
        config.read(None, {})


def test_secrets_are_read_once_and_leave_the_environment(tmp_path: Path) -> None:
    environ = {"SLACK_APP_TOKEN": "xapp-1", "SLACK_BOT_TOKEN": "xoxb-1", "ANTHROPIC_API_KEY": "k"}
    found = read(SLACK, tmp_path)
    secrets = config.load_secrets(found, environ)
    assert sorted(secrets) == ["k", "xapp-1", "xoxb-1"]
    assert environ == {}
    assert found.agent.api_key.reveal() == "k"
    assert "xoxb" not in repr(found)


def test_a_public_address_goes_with_a_token(tmp_path: Path) -> None:
    public = "[daemon]\nlisten = '0.0.0.0:80'\napi_token = { env = 'API_TOKEN' }\n" + SLACK
    found = read(public, tmp_path)
    assert found.daemon.own_address == "127.0.0.1:80"
    environ = {"SLACK_APP_TOKEN": "xapp-1", "SLACK_BOT_TOKEN": "xoxb-1", "ANTHROPIC_API_KEY": "k"}
    with pytest.raises(ConfigError, match=r"daemon\.api_token: give it 16 characters"):
        config.load_secrets(found, {**environ, "API_TOKEN": "short"})
    config.load_secrets(found, {**environ, "API_TOKEN": "0123456789abcdef"})
    assert found.daemon.token() == "0123456789abcdef"


def test_a_token_that_is_read_anew_and_is_too_short_changes_nothing(tmp_path: Path) -> None:
    token, key = tmp_path / "token", tmp_path / "key"
    token.write_text("0123456789abcdef")
    key.write_text("the first key")
    tables = (
        f"[daemon]\napi_token = {{ file = '{token}' }}\n[agent]\napi_key = {{ file = '{key}' }}\n"
    )
    found = read(tables + SLACK, tmp_path)
    config.load_secrets(found, {"SLACK_APP_TOKEN": "xapp-1", "SLACK_BOT_TOKEN": "xoxb-1"})
    token.write_text("short")
    key.write_text("the second key")
    with pytest.raises(ConfigError, match=r"daemon\.api_token: give it 16"):
        config.reread_secrets(found, {})
    assert (found.daemon.token(), found.agent.api_key.reveal()) == (
        "0123456789abcdef",
        "the first key",
    )
    token.write_text("fedcba9876543210")
    assert config.reread_secrets(found, {}) == ["fedcba9876543210", "the second key"]
    assert found.daemon.token() == "fedcba9876543210"


@pytest.mark.parametrize("listen", ["127.0.0.1:80", "127.9.9.9:80", "localhost:80", "[::1]:80"])
def test_loopback_needs_none(tmp_path: Path, listen: str) -> None:
    found = read(f"[daemon]\nlisten = '{listen}'\n" + SLACK, tmp_path)
    assert (found.daemon.own_address, found.daemon.token()) == (listen, None)


@pytest.mark.parametrize("listen", ["[::]:80", "10.0.0.1:80", "postroom.example.com:80"])
def test_any_other_address_does(tmp_path: Path, listen: str) -> None:
    with pytest.raises(ConfigError, match=r"daemon\.listen: only a loopback address"):
        read(f"[daemon]\nlisten = '{listen}'\n" + SLACK, tmp_path)


def test_a_missing_secret_names_its_key(tmp_path: Path) -> None:
    found = read(SLACK, tmp_path)
    with pytest.raises(ConfigError, match=r"agent\.api_key: the environment has no ANTHROPIC"):
        config.load_secrets(found, {})


def test_all_limits_are_gathered_from_where_they_are_written(tmp_path: Path) -> None:
    bounds = "[budgets]\nper_turn = 1\npublic_daily = 5\nchannels = { C2 = 2 }"
    environ = {"POSTROOM__BUDGETS__CHANNELS__C1": "3", "POSTROOM__BUDGETS__DAILY": "50"}
    found = read(f"{bounds}\n{SLACK}\ndaily = 7.5", tmp_path, **environ)
    assert found.limits() == Limits(
        per_turn=1.0,
        public_daily=5.0,
        daily=50.0,
        channels={"C1": 3.0, "C2": 2.0},
        connectors={"slack": 7.5},
    )


TOKENS = {"SLACK_APP_TOKEN": "xapp-1", "SLACK_BOT_TOKEN": "xoxb-1"}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('region = "us-east-1"', "region is for upstream"),
        ('upstream = "vertex"', "needs a region"),
        ('upstream = "bedrock"\nregion = "us-east-1"', "needs its id of the model"),
        ('upstream = "azure"', "agent.upstream"),
        ('upstream = "vertex"\nregion = "https://x/"', "agent.region"),
    ],
)
def test_an_upstream_is_told_whole_or_not_at_all(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        read(f"[agent]\n{text}\n{SLACK}", tmp_path)


def test_a_key_that_is_none_of_its_upstream_s_is_refused_at_the_start(tmp_path: Path) -> None:
    key = tmp_path / "key.json"
    key.write_text("sk-ant-of-another-house")
    vertex = f'upstream = "vertex"\nregion = "global"\napi_key = {{ file = "{key}" }}'
    read_config = read(f"[agent]\n{vertex}\n{SLACK}", tmp_path)
    with pytest.raises(ConfigError, match=r"agent\.api_key: .*service account"):
        config.load_secrets(read_config, dict(TOKENS))


def test_what_is_secret_within_a_key_file_is_hidden_by_itself(tmp_path: Path) -> None:
    key = tmp_path / "key.json"
    key.write_text('{"AccessKeyId": "AKID", "SecretAccessKey": "the secret", "SessionToken": "s"}')
    bedrock = (
        f'upstream = "bedrock"\nregion = "us-east-1"\napi_key = {{ file = "{key}" }}\n'
        'models = { "claude-sonnet-5" = "us.anthropic.claude-sonnet-5" }'
    )
    read_config = read(f"[agent]\n{bedrock}\n{SLACK}", tmp_path)
    assert "the secret" in config.load_secrets(read_config, dict(TOKENS))
    assert "the secret" in config.reread_secrets(read_config, {})


def test_a_server_s_secrets_are_read_like_all_others(tmp_path: Path) -> None:
    text = NOTES + "env = { KEY = { env = 'NOTES_KEY' } }\n"
    text += "[profiles.operator]\ntools = ['mcp__notes__add']" + SLACK
    found = read(text, tmp_path)
    environ = {"NOTES_KEY": "of the notes", "ANTHROPIC_API_KEY": "k"}
    environ |= {"SLACK_APP_TOKEN": "a", "SLACK_BOT_TOKEN": "b"}
    assert "of the notes" in config.load_secrets(found, environ)
    assert "NOTES_KEY" not in environ
    assert found.mcp["notes"].env["KEY"].reveal() == "of the notes"
