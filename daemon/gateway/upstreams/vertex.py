"""Claude on Google's Vertex AI: the Messages API in all but the address, the version, the model's
place and the credentials.

Source: https://cloud.google.com/vertex-ai/generative-ai/docs/partner-models/claude/use-claude, and
what the pinned CLI sends there (tests/integration/test_upstreams_cli.py).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import quote

from yarl import URL

from daemon.clock import Clock
from daemon.credentials import service_account
from daemon.gateway.upstreams.dialect import AsItIs, Order, Reader, Upstream, Wish, betas
from daemon.gateway.upstreams.errors import ErrorReader
from daemon.gateway.upstreams.google import TokenSource

VERSION = "vertex-2023-10-16"
REGIONAL = 1.1  # times the price, by any endpoint but the global one (about-claude/pricing)
# Of the experiments that the CLI asks for beside this API, those that it asks Vertex for, too.
BETAS = frozenset({"claude-code-20250219", "effort-2025-11-24", "interleaved-thinking-2025-05-14"})
_DATED = re.compile(r"-(\d{8})\Z")


class Vertex:
    """The `Dialect` of one project and region; without a project it is the service account's. Ids
    are given for models that Vertex calls otherwise. Raises ValueError for a key that is none.
    """

    without = frozenset({"model"})
    counts = False
    refusals = frozenset({401, 403})

    def __init__(self, upstream: Upstream, key: str, clock: Clock) -> None:
        self._url = (upstream.url or address_of(upstream.region)).rstrip("/")
        self._upstream, self._clock = upstream, clock
        self.use_key(key)

    def has(self, model: str) -> bool:  # noqa: ARG002 - it says so itself
        return True

    def premium(self, model: str) -> float:  # noqa: ARG002
        return 1.0 if self._upstream.region == "global" else REGIONAL

    async def order(self, wish: Wish) -> Order:
        model, streams = wish.judged.asked.model, wish.judged.asked.streams
        name = self._upstream.models.get(model) or _DATED.sub(r"@\1", model)
        verb = "streamRawPredict" if streams else "rawPredict"
        project, region = self._upstream.project or self._account.project, self._upstream.region
        place = f"projects/{project}/locations/{region}/publishers/anthropic/models"
        path = f"/v1/{place}/{quote(name, safe='@')}:{verb}"
        wanted = [beta for beta in betas(wish.headers) if beta in BETAS]
        headers = [
            ("authorization", f"Bearer {await self._tokens.token()}"),
            ("content-type", "application/json"),
            ("accept-encoding", "identity"),
            *((("anthropic-beta", ",".join(wanted)),) if wanted else ()),
        ]
        body = wish.judged.body(wish.max_tokens, anthropic_version=VERSION)
        return Order(URL(self._url + path, encoded=True), headers, body)

    def read(self, status: int, headers: Mapping[str, str]) -> Reader:  # noqa: ARG002
        return AsItIs() if status == 200 else ErrorReader(status)

    def refused(self) -> None:
        self._tokens.forget()

    def use_key(self, key: str) -> None:
        account = service_account(key)
        self._tokens = TokenSource(account, self._clock)
        self._account = account


def address_of(region: str) -> str:
    """Of Vertex AI's endpoint for a region, "global", or a multi-region ("us", "eu")."""
    if region == "global":
        return "https://aiplatform.googleapis.com"
    if region in {"us", "eu"}:
        return f"https://aiplatform.{region}.rep.googleapis.com"
    return f"https://{region}-aiplatform.googleapis.com"
