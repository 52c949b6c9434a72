"""Foreign bytes to safe text: charsets, header words, characters that hide. Never raises."""

from __future__ import annotations

import codecs
import re
from email.header import decode_header

MAX_HEADER = 2_000  # characters of one header value

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]")
# Soft hyphen, zero-width, bidirectional and tag characters: text that a person does not see.
_HIDDEN = re.compile(
    "[\u00ad\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff\U000e0000-\U000e007f]"
)
# Codecs of Python's own that pass for charsets: they are slow, or write what was escaped.
_NO_CHARSETS = {"idna", "punycode", "undefined", "unicode-escape", "raw-unicode-escape"}
_ODD_CHARSETS = {  # names that real mails carry and Python does not know
    "chinesebig5": "big5",
    "ks_c_5601-1987": "cp949",
    "x-sjis": "cp932",
    "x-gbk": "gbk",
    "unicode-1-1-utf-7": "utf-7",
}


def decode(data: bytes, charset: str | None, flags: set[str], limit: int) -> str:
    """At most `limit` bytes as text: the named charset, else a guess, else latin-1."""
    name = (charset or "utf-8").strip().lower()
    cut = data[:limit]
    try:
        name = _ODD_CHARSETS.get(name, name)
        b"probe".decode(name, "replace")  # refuses "bz2" and its like: no charsets, but bombs
        if codecs.lookup(name).name.replace("_", "-") not in _NO_CHARSETS:
            # Incremental: a cut within a character is no error.
            return codecs.getincrementaldecoder(name)().decode(cut, len(data) <= limit)
    except Exception:  # noqa: BLE001, S110 - foreign bytes: any name, any failure
        pass
    flags.add("charset")
    return _guessed(cut)


def _guessed(data: bytes) -> str:
    from charset_normalizer import from_bytes  # noqa: PLC0415 - costly, and rarely needed

    try:
        best = from_bytes(data[:20_000]).best()
        if best is not None:
            return data.decode(best.encoding)
    except Exception:  # noqa: BLE001, S110 - foreign bytes
        pass
    return data.decode("latin-1")


def clean(text: str, limit: int, flags: set[str]) -> str:
    """Without characters that hide or control; at most `limit` characters. Flags say what went."""
    if len(text) > limit:
        flags.add("truncated")
        text = text[:limit]
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if _HIDDEN.search(text):
        flags.add("hidden characters")
        text = _HIDDEN.sub("", text)
    return _CONTROL.sub("", text)


def header(value: object, flags: set[str]) -> str:
    """A header's value on one line, its encoded words decoded."""
    raw = unescaped(str(value)[: MAX_HEADER * 4], flags)
    try:
        words = [
            part if isinstance(part, str) else decode(part, charset, flags, MAX_HEADER * 4)
            for part, charset in decode_header(raw)
        ]
    except Exception:  # noqa: BLE001 - foreign bytes: broken base64, lone surrogates
        flags.add("header")
        words = [raw]
    return clean(re.sub(r"\s+", " ", "".join(words)).strip(), MAX_HEADER, flags)


def unescaped(raw: str, flags: set[str], limit: int = MAX_HEADER * 4) -> str:
    """The parser keeps raw 8-bit bytes as lone surrogates: read them as UTF-8, or guess."""
    if raw.isascii():
        return raw
    try:
        return decode(raw.encode("utf-8", "surrogateescape"), "utf-8", flags, limit)
    except UnicodeError:
        flags.add("header")
        return raw.encode("ascii", "replace").decode("ascii")
