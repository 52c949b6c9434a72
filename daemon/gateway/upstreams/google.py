"""Tokens for Google's APIs: a service account's key, exchanged for one that lasts an hour.

Source: RFC 7523, and https://developers.google.com/identity/protocols/oauth2/service-account,
"HTTP/REST".
"""

from __future__ import annotations

import asyncio
import base64
import json

import aiohttp
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from daemon.clock import Clock
from daemon.credentials import ServiceAccount
from daemon.gateway.upstreams.dialect import KeyRefusedError

SCOPE = "https://www.googleapis.com/auth/cloud-platform"
GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
LASTS_SECONDS = 3600  # the longest that is given
BEFORE_SECONDS = 300.0  # its end: then another one is asked for
PATIENCE = aiohttp.ClientTimeout(total=15.0)


class TokenSource:
    """One account's tokens. Raises ValueError, with a sentence, for a key that is none."""

    def __init__(self, account: ServiceAccount, clock: Clock) -> None:
        self._account, self._clock = account, clock
        self._key = private_key(account)
        self._token, self._good_until = "", 0.0
        self._asking = asyncio.Lock()

    async def token(self) -> str:
        """Raises KeyRefusedError, aiohttp.ClientError, OSError."""
        async with self._asking:
            if self._clock.monotonic() >= self._good_until:
                self._token, lasts = await self._ask()
                self._good_until = self._clock.monotonic() + lasts - BEFORE_SECONDS
            return self._token

    def forget(self) -> None:
        """The token is good for nothing any more."""
        self._good_until = 0.0

    async def _ask(self) -> tuple[str, float]:
        said = assertion(self._account, self._key, int(self._clock.now()))
        form = {"grant_type": GRANT, "assertion": said}
        async with (
            aiohttp.ClientSession(timeout=PATIENCE) as session,
            session.post(self._account.token_uri, data=form, allow_redirects=False) as answer,
        ):
            if answer.status in {400, 401, 403}:
                raise KeyRefusedError
            answer.raise_for_status()
            try:
                given = await answer.json(content_type=None)
                return str(given["access_token"]), float(given["expires_in"])
            except (ValueError, KeyError, TypeError) as error:
                raise OSError("the answer holds no token") from error


def private_key(account: ServiceAccount) -> RSAPrivateKey:
    """Raises ValueError, with a sentence."""
    try:
        key = load_pem_private_key(account.private_key.encode(), None)
    except (ValueError, TypeError):
        key = None
    if not isinstance(key, RSAPrivateKey):  # what is no PEM at all, too
        told = "private_key of the service account is no RSA key in PEM"
        raise ValueError(told)  # noqa: TRY004 - a text's fault, not a type's
    return key


def assertion(account: ServiceAccount, key: RSAPrivateKey, now: int) -> str:
    """A JSON web token (RFC 7519) by which the account says who it is, at a time (seconds)."""
    header = {"alg": "RS256", "typ": "JWT", "kid": account.key_id}
    claims = {
        "iss": account.email,
        "scope": SCOPE,
        "aud": account.token_uri,
        "iat": now,
        "exp": now + LASTS_SECONDS,
    }
    said = b".".join(_base64(json.dumps(part).encode()) for part in (header, claims))
    return b".".join((said, _base64(key.sign(said, PKCS1v15(), SHA256())))).decode()


def _base64(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")
