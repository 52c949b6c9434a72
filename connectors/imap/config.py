"""The `[connectors.NAME]` table of kind "imap": exactly the surface's keys."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from daemon.machine import is_loopback
from daemon.plugin import ConnectorTable
from daemon.secret import Secret

Security = Literal["tls", "starttls", "plain"]
Mode = Literal["triage", "draft", "reply"]

# One address of the plain kind (RFC 5321 dot-atom); what is more exotic is never trusted anyway.
ADDRESS = re.compile(r"[a-z0-9!#$%&'*+/=?^_`{|}~.-]{1,64}@[a-z0-9.-]{1,253}")
_PATTERN = re.compile(r"(?:[a-z0-9!#$%&'+/=^_`{|}~.*-]+@)?[a-z0-9.*-]+")
_NAME = re.compile(r'[^\x00-\x1f\x7f"\\]+')

Port = Annotated[int, Field(ge=1, le=65535)]


class _Server(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    host: str = Field(min_length=1)
    port: Port
    security: Security = "tls"

    @model_validator(mode="after")
    def _plain_stays_here(self) -> _Server:
        if self.security == "plain" and not is_loopback(self.host):
            raise ValueError('security = "plain" goes to a loopback address only: write "tls"')
        return self


class ImapServer(_Server):
    """Where mail is read. Certificates are checked against the system's store, or against
    SSL_CERT_FILE and SSL_CERT_DIR, which OpenSSL itself reads.
    """

    user: str = Field(min_length=1)
    password: Secret


class SmtpServer(_Server):
    """Where mail is handed over. No user: the server asks for none."""

    user: str | None = None
    password: Secret | None = None

    @model_validator(mode="after")
    def _both_or_none(self) -> SmtpServer:
        if (self.user is None) != (self.password is None):
            raise ValueError("give user and password, or neither")
        return self


class ImapTable(ConnectorTable):
    """One mailbox. Addresses and patterns are compared in lower case."""

    kind: Literal["imap"]
    address: str
    imap: ImapServer
    smtp: SmtpServer | None = None
    folder: str = "INBOX"
    mode: Mode = "draft"
    allow: tuple[str, ...] = ()
    authserv_id: str | None = None
    aliases: tuple[str, ...] = ()
    max_replies_per_thread_daily: int = Field(default=20, ge=0)
    max_replies_per_sender_daily: int = Field(default=50, ge=0)

    @field_validator("address")
    @classmethod
    def _address(cls, value: str) -> str:
        return _address_of(value)

    @field_validator("aliases")
    @classmethod
    def _aliases(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(_address_of(alias) for alias in value)

    @field_validator("allow")
    @classmethod
    def _allow(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for pattern in value:
            if not _PATTERN.fullmatch(pattern.lower()):
                raise ValueError(f'{pattern!r}: write an address, or a pattern as "*@example.com"')
        return tuple(pattern.lower() for pattern in value)

    @field_validator("folder")
    @classmethod
    def _folder(cls, value: str) -> str:
        if not value.isascii() or not _NAME.fullmatch(value):
            raise ValueError("write the folder's name in ASCII, without quotes or backslashes")
        return value

    @field_validator("authserv_id")
    @classmethod
    def _authserv_id(cls, value: str | None) -> str | None:
        return value.strip().lower() or None if value is not None else None

    @model_validator(mode="after")
    def _a_way_out(self) -> ImapTable:
        if self.mode == "reply" and self.smtp is None:
            raise ValueError('mode = "reply" needs smtp')
        return self

    @property
    def own_addresses(self) -> frozenset[str]:
        return frozenset((self.address, *self.aliases))

    @property
    def domain(self) -> str:
        return self.address.rpartition("@")[2]


def _address_of(value: str) -> str:
    address = value.strip().lower()
    if not ADDRESS.fullmatch(address):
        raise ValueError(f'{value!r}: write one address, as "support@example.com"')
    return address
