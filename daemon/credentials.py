"""What opens an upstream of the model besides a plain key: forms that providers publish. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

_HIDDEN = ("private_key", "SecretAccessKey", "SessionToken")


@dataclass(frozen=True, slots=True)
class ServiceAccount:
    """A key file of Google's (https://cloud.google.com/iam/docs/keys-create-delete). `private_key`
    is PEM, `token_uri` is where it is exchanged for a token.
    """

    email: str
    key_id: str
    private_key: str = field(repr=False)
    token_uri: str
    project: str


@dataclass(frozen=True, slots=True)
class AccessKey:
    """An access key of AWS's, as `credential_process` programs print it
    (https://docs.aws.amazon.com/sdkref/latest/guide/feature-process-credentials.html).
    """

    id: str
    secret: str = field(repr=False)
    session_token: str = field(default="", repr=False)


def service_account(text: str) -> ServiceAccount:
    """Raises ValueError, with a sentence that says what to give."""
    found = _object(text) or {}
    names = ("client_email", "private_key_id", "private_key", "token_uri", "project_id")
    values = [found.get(name) for name in names]
    if found.get("type") != "service_account" or not all(isinstance(v, str) for v in values):
        raise ValueError("give it the JSON key file of a Google service account")
    account = ServiceAccount(*map(str, values))
    address = urlsplit(account.token_uri)
    if address.scheme != "https" and address.hostname != "127.0.0.1":
        raise ValueError("token_uri of the service account is no https:// address")
    return account


def aws_key(text: str) -> AccessKey | str:
    """An access key, or an API key of Bedrock's as it is. Raises ValueError, with a sentence."""
    if not text.lstrip().startswith("{"):
        return text
    found = _object(text) or {}
    id_, secret = found.get("AccessKeyId"), found.get("SecretAccessKey")
    token = found.get("SessionToken") or ""
    if not (isinstance(id_, str) and isinstance(secret, str) and isinstance(token, str)):
        raise ValueError(  # noqa: TRY004 - a text's fault, not a type's
            "give it an API key of Bedrock's, or JSON with AccessKeyId, SecretAccessKey and, "
            "where there is one, SessionToken"
        )
    return AccessKey(id_, secret, token)


def parts(text: str) -> list[str]:
    """What of a secret is one by itself, to be hidden where it stands alone."""
    found = _object(text) or {}
    return [value for name in _HIDDEN if isinstance(value := found.get(name), str) and value]


def _object(text: str) -> Mapping[str, object] | None:
    try:
        found = json.loads(text)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
