"""AWS Signature Version 4: signs a request's headers. Pure.

Source, with the example that the tests repeat:
https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from datetime import UTC, datetime
from urllib.parse import quote, urlsplit

from daemon.credentials import AccessKey

ALGORITHM = "AWS4-HMAC-SHA256"


def signed(
    key: AccessKey,
    *,
    method: str,
    url: str,
    headers: Mapping[str, str],
    body: bytes,
    region: str,
    service: str,
    at: float,
) -> dict[str, str]:
    """The headers that go with a request besides these: date, session token and signature. `url`
    is as it is sent, without a query; its path is encoded once more in what is signed, as for
    every service but S3.
    """
    place = urlsplit(url)
    moment = datetime.fromtimestamp(at, UTC).strftime("%Y%m%dT%H%M%SZ")
    added = {"x-amz-date": moment}
    if key.session_token:
        added["x-amz-security-token"] = key.session_token
    everything = {**headers, **added, "host": place.netloc}
    canonical = {name.lower(): " ".join(value.split()) for name, value in everything.items()}
    names = ";".join(sorted(canonical))
    request = "\n".join(
        (
            method,
            quote(place.path or "/", safe="/-_.~"),
            "",
            *(f"{name}:{canonical[name]}" for name in sorted(canonical)),
            "",
            names,
            hashlib.sha256(body).hexdigest(),
        )
    )
    scope = f"{moment[:8]}/{region}/{service}/aws4_request"
    digest = hashlib.sha256(request.encode()).hexdigest()
    text = f"{ALGORITHM}\n{moment}\n{scope}\n{digest}"
    signing = f"AWS4{key.secret}".encode()
    for part in scope.split("/"):
        signing = hmac.digest(signing, part.encode(), "sha256")
    signature = hmac.digest(signing, text.encode(), "sha256").hex()
    credential = f"Credential={key.id}/{scope}"
    added["authorization"] = (
        f"{ALGORITHM} {credential}, SignedHeaders={names}, Signature={signature}"
    )
    return added
