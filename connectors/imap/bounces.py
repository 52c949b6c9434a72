"""What a delivery report (RFC 3464) says of the mails that it is about. Never raises."""

from __future__ import annotations

import re
from typing import Any

_STATUS = ("message/delivery-status", "message/global-delivery-status")
_ORIGINAL = ("message/rfc822", "message/global", "text/rfc822-headers")
_ID = re.compile(r"^message-id:\s*(<[^<>\s]{1,300}>)", re.IGNORECASE | re.MULTILINE)


def tells_of_failure(part: Any, kind: str) -> bool:
    """Whether a part says that somebody will not get the mail. A delay is no failure."""
    if kind not in _STATUS:
        return False
    try:
        return any(
            str(block.get("action", "")).strip().lower() == "failed" for block in part.get_payload()
        )
    except Exception:  # noqa: BLE001 - foreign bytes
        return False


def original_id(part: Any, kind: str) -> str:
    """The Message-ID of the mail that a part gives back, or of its headers; else empty."""
    if kind not in _ORIGINAL:
        return ""
    try:
        payload = part.get_payload()
        if isinstance(payload, list):
            text = f"message-id: {str(payload[0].get('message-id', '')).strip()}"
        else:
            text = (part.get_payload(decode=True) or b"").decode("ascii", "replace")
    except Exception:  # noqa: BLE001 - foreign bytes
        return ""
    found = _ID.search(text.replace("\r\n", "\n"))
    return found[1] if found else ""
