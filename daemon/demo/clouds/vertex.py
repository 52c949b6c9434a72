"""Vertex's door, with one service account, and the server that gives it tokens."""

from __future__ import annotations

import base64
import json
import time

import aiohttp
from aiohttp import web
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from daemon.demo.clouds.cloud import KEYS, SKEW_SECONDS, Cloud, cut, odd_in
from daemon.gateway.upstreams.google import GRANT, SCOPE


class StandInVertex(Cloud):
    """One project and region, with one service account, and the server that gives it tokens."""

    version = "vertex-2023-10-16"
    betas = frozenset(
        {
            *("claude-code-20250219", "interleaved-thinking-2025-05-14", "effort-2025-11-24"),
            *("thinking-token-count-2026-05-13", "web-search-2025-03-05"),
        }
    )

    def __init__(
        self,
        model_url: str,
        model_key: str,
        *,
        project: str = "a-project",
        region: str = "europe-west1",
        lasts: int = 3599,
    ) -> None:
        super().__init__(model_url, model_key)
        self.project, self.region, self.lasts = project, region, lasts
        self.tokens: list[str] = []
        self._key = generate_private_key(65537, 2048)

    def key_file(self, key: RSAPrivateKey | None = None) -> str:
        """The account's key file; with another key, one that is not its."""
        pem = (key or self._key).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        return json.dumps(
            {
                "type": "service_account",
                "project_id": self.project,
                "private_key_id": "stand-in-key",
                "private_key": pem.decode(),
                "client_email": f"postroom@{self.project}.iam.gserviceaccount.com",
                "token_uri": f"{self.url}/token",
            }
        )

    def revoke(self) -> None:
        """The tokens that were given are good for nothing any more."""
        self.tokens = [f"{token}-revoked" for token in self.tokens]

    def add_routes(self, router: web.UrlDispatcher) -> None:
        place = f"/v1/projects/{self.project}/locations/{self.region}/publishers/anthropic/models"
        router.add_post("/token", self._token)
        call = r"/{model:[a-z0-9@-]+}:{verb:streamRawPredict|rawPredict}"
        router.add_post(place + call, self._predict)

    async def _token(self, request: web.Request) -> web.Response:
        form = await request.post()
        if form.get("grant_type") != GRANT or not self._authentic(str(form.get("assertion"))):
            said = {"error": "invalid_grant", "error_description": "Invalid JWT Signature."}
            return web.json_response(said, status=400)
        self.tokens.append(f"ya29.stand-in-{len(self.tokens)}")
        given = {"access_token": self.tokens[-1], "expires_in": self.lasts, "token_type": "Bearer"}
        return web.json_response(given)

    def _authentic(self, assertion: str) -> bool:
        try:
            head, claims, signature = assertion.split(".")
            self._key.public_key().verify(
                _unbase64(signature), f"{head}.{claims}".encode(), PKCS1v15(), SHA256()
            )
            told = json.loads(_unbase64(claims))
        except (ValueError, InvalidSignature):
            return False
        now = time.time()
        return bool(
            json.loads(_unbase64(head)) == {"alg": "RS256", "typ": "JWT", "kid": "stand-in-key"}
            and (told["aud"], told["scope"]) == (f"{self.url}/token", SCOPE)
            and told["iss"] == json.loads(self.key_file())["client_email"]
            and told["iat"] <= now + SKEW_SECONDS
            and now < told["exp"] <= told["iat"] + 3600
        )

    async def _predict(self, request: web.Request) -> web.StreamResponse:
        shown = request.headers.get("authorization", "")
        if shown not in [f"Bearer {token}" for token in self.tokens]:
            return _as_google(401, "UNAUTHENTICATED", "Request had invalid credentials.")
        body = await request.json()
        odd = odd_in(body, KEYS | {"stream"}, self.version)
        wanted = request.headers.get("anthropic-beta", "").split(",")
        if not odd and (strange := set(filter(None, wanted)) - self.betas):
            odd = f"Unexpected value(s) {strange} for the `anthropic-beta` header."
        streams = request.match_info["verb"] == "streamRawPredict"
        if odd or body.get("stream", False) is not streams:
            return _as_google(400, "INVALID_ARGUMENT", odd or "stream: does not go with the verb")
        name = request.match_info["model"].replace("@", "-")
        own = {key: body[key] for key in body if key != "anthropic_version"}
        async with self.ask({**own, "model": name}) as answer:
            if answer.status == 429:
                return _as_google(429, "RESOURCE_EXHAUSTED", "Quota exceeded.")
            response = web.StreamResponse(
                status=answer.status, headers={"content-type": answer.headers["content-type"]}
            )
            await response.prepare(request)
            try:
                async for chunk in answer.content.iter_any():
                    await response.write(chunk)
            except aiohttp.ClientError:
                cut(request)
                return response
            await response.write_eof()
            return response


def _as_google(status: int, name: str, message: str) -> web.Response:
    error = {"code": status, "message": message, "status": name}
    return web.json_response([{"error": error}], status=status)


def _unbase64(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
