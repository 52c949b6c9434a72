"""Bedrock's door: InvokeModel and InvokeModelWithResponseStream, with an API key or a signature."""

from __future__ import annotations

import base64
import calendar
import json
import re
import time
from collections.abc import AsyncIterator, Mapping
from urllib.parse import unquote

import aiohttp
from aiohttp import web

from daemon.credentials import AccessKey
from daemon.demo.clouds.cloud import KEYS, SKEW_SECONDS, Cloud, Json, cut, odd_in
from daemon.gateway.upstreams.eventstream import EventMessage
from daemon.gateway.upstreams.sigv4 import signed


class StandInBedrock(Cloud):
    """One region, in which `models` are enabled: names of the model's by Bedrock's ids. While
    `breaks_off` names an exception, streams end with it after their first event.
    """

    version = "bedrock-2023-05-31"
    betas = frozenset(
        {
            *("claude-code-20250219", "interleaved-thinking-2025-05-14"),
            "thinking-token-count-2026-05-13",
        }
    )

    def __init__(
        self,
        model_url: str,
        model_key: str,
        *,
        key: AccessKey | str,
        models: Mapping[str, str],
        region: str = "us-east-1",
    ) -> None:
        super().__init__(model_url, model_key)
        self.key, self.region, self.models = key, region, models
        self.breaks_off = ""

    def add_routes(self, router: web.UrlDispatcher) -> None:
        router.add_post("/model/{id}/invoke", self._invoke)
        router.add_post("/model/{id}/invoke-with-response-stream", self._invoke)

    async def _invoke(self, request: web.Request) -> web.StreamResponse:
        data = await request.read()
        if not self._authentic(request, data):
            said = "The security token included in the request is invalid."
            return _refused(403, "UnrecognizedClientException", said)
        name = self.models.get(unquote(request.match_info["id"]))
        if name is None:
            return _refused(404, "ResourceNotFoundException", "Could not resolve the model.")
        body = json.loads(data)
        odd = odd_in(body, KEYS | {"anthropic_beta"}, self.version)
        if not odd and set(body.get("anthropic_beta", ())) - self.betas:
            odd = "invalid beta flag"
        if odd:
            return _refused(400, "ValidationException", odd)
        streams = request.path.endswith("-stream")
        own = {key: body[key] for key in body if not key.startswith("anthropic_")}
        async with self.ask({**own, "model": name, "stream": streams}) as answer:
            if answer.status != 200:
                return await _as_aws(answer)
            if not streams:
                return web.json_response(await answer.json())
            return await self._stream(request, answer)

    async def _stream(
        self, request: web.Request, answer: aiohttp.ClientResponse
    ) -> web.StreamResponse:
        response = web.StreamResponse(
            headers={"content-type": "application/vnd.amazon.eventstream"}
        )
        await response.prepare(request)
        try:
            async for event in _events(answer):
                payload = {"bytes": base64.b64encode(event).decode(), "p": "abcdefgh"}
                await response.write(_message("event", "chunk", payload))
                if self.breaks_off:
                    said = {"message": "It broke off."}
                    await response.write(_message("exception", self.breaks_off, said))
                    break
        except aiohttp.ClientError:
            cut(request)
            return response
        await response.write_eof()
        return response

    def _authentic(self, request: web.Request, data: bytes) -> bool:
        shown = request.headers.get("authorization", "")
        if isinstance(self.key, str):
            return shown == f"Bearer {self.key}"
        moment = request.headers.get("x-amz-date", "")
        names = re.search(r"SignedHeaders=([a-z0-9;-]+)", shown)
        if names is None or not re.fullmatch(r"\d{8}T\d{6}Z", moment):
            return False
        at = _seconds(moment)
        own = {"host", "x-amz-date", "x-amz-security-token"}
        covered = [name for name in names[1].split(";") if name not in own]
        expected = signed(
            self.key,
            method=request.method,
            url=f"{self.url}{request.raw_path}",
            headers={name: request.headers.get(name, "") for name in covered},
            body=data,
            region=self.region,
            service="bedrock",
            at=at,
        )
        return expected["authorization"] == shown and abs(time.time() - at) < SKEW_SECONDS


def _seconds(moment: str) -> float:
    return calendar.timegm(time.strptime(moment, "%Y%m%dT%H%M%SZ"))


async def _events(answer: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    """The data of each server-sent event."""
    async for line in answer.content:
        if line.startswith(b"data:"):
            yield line[5:].strip()


def _message(kind: str, name: str, payload: Json) -> bytes:
    headers = {":message-type": kind, ":content-type": "application/json"}
    headers[f":{kind}-type"] = name
    return EventMessage(headers, json.dumps(payload).encode()).encode()


async def _as_aws(answer: aiohttp.ClientResponse) -> web.Response:
    kinds = {400: "ValidationException", 429: "ThrottlingException"}
    status = 503 if answer.status == 529 else answer.status
    said = (await answer.json())["error"]["message"]
    return _refused(status, kinds.get(status, "ServiceUnavailableException"), said)


def _refused(status: int, kind: str, message: str) -> web.Response:
    return web.json_response(
        {"message": message}, status=status, headers={"x-amzn-errortype": kind}
    )
