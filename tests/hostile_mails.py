"""Mails that somebody might write to harm whoever reads them, or that broken programs do write."""

from __future__ import annotations

import base64
import bz2
from collections.abc import Mapping

_TEXT = (
    b"Subject: s\r\nFrom: a@example.test\r\nContent-Type: text/plain; charset=%b\r\n\r\nh\xe9llo"
)
_HTML = b"Subject: s\r\nContent-Type: text/html; charset=utf-8\r\n\r\n"
_MIXED = b'Subject: s\r\nContent-Type: multipart/mixed; boundary="b"\r\n\r\n'


def _nested(depth: int) -> bytes:
    head = b'Content-Type: multipart/mixed; boundary="b%d"\n\n--b%d\n'
    return b"".join(head % (number, number) for number in range(depth)) + b"\nx"


def _forwarded(depth: int) -> bytes:
    return b"Content-Type: message/rfc822\n\n" * depth + b"Subject: innermost\n\nx"


def _encoded(charset: bytes, body: bytes) -> bytes:
    head = b"Content-Type: text/plain; charset=%b\r\nContent-Transfer-Encoding: base64\r\n\r\n"
    return head % charset + base64.encodebytes(body)


HOSTILE: Mapping[str, bytes] = {
    # nothing to read
    "empty": b"",
    "one byte": b"\xff",
    "only line ends": b"\r\n" * 5000,
    "only NUL": b"\0" * 5000,
    "no header": b"\r\njust text\r\n",
    "no body": b"From: a@example.test\r\nSubject: s",
    "a header line without a colon": b"From a\r\nnonsense\r\nSubject: s\r\n\r\nx",
    "carriage returns only": b"From: a@example.test\rSubject: s\r\rtext",
    # charsets
    "charset DEFAULT_CHARSET": _TEXT % b"DEFAULT_CHARSET",
    "charset with NUL": _TEXT % b'"utf\x00"',
    "charset of 8-bit": _TEXT % b"\xe9\xe9",
    "charset that is a cipher": _TEXT % b"rot13",
    "charset that is a codec of bytes": _TEXT % b"hex",
    "charset of host names": _TEXT % b"punycode" + b"-a" * 40_000,
    "charset of escapes": _TEXT % b"unicode_escape" + rb"\x1b[31m\u202e",
    "charset that decompresses": _encoded(b"bz2", bz2.compress(b"\0" * 20_000_000)),
    "charset in three parts": _TEXT % b"x; charset*0*=utf-8''%zz; charset*1=8",
    "charset that undoes": _TEXT % b"undefined",
    # headers
    "Message-Id: <>": b"Message-Id: <>\r\nFrom: a@example.test\r\n\r\nx",
    "two Message-IDs": b"Message-ID: <a@b>\r\nMessage-ID: <c@d>\r\n\r\nx",
    "3000 parentheses": b"To: " + b"(" * 3000 + b"\r\n\r\nx",
    "parentheses in pairs": b"From: " + b"(()" * 3000 + b" a@example.test\r\n\r\nx",
    "quotes without an end": b'From: "' + b'\\"' * 5000 + b"\r\n\r\nx",
    "20000 addresses": b"To: " + b"a@example.test, " * 20_000 + b"\r\n\r\nx",
    "groups in groups": b"To: " + b"g:" * 3000 + b";" * 3000 + b"\r\n\r\nx",
    "5000 encoded words": b"Subject: " + b"=?utf-8?q?a?=\r\n " * 5000 + b"\r\n\r\nx",
    "encoded words in words": b"Subject: =?utf-8?q?=?utf-8?b?YQ==?=?=\r\n\r\nx",
    "an encoded word that is cut": b"Subject: =?utf-8?b?" + b"YWFh" * 3000 + b"\r\n\r\nx",
    "an encoded line end": b"Subject: =?utf-8?q?a=0D=0ABcc:_b@example.test?=\r\n\r\nx",
    "an encoded address": b"From: =?utf-8?q?boss=40example.test?= <x@evil.test>\r\n\r\nx",
    "a header of a megabyte": b"Subject: " + b"x" * 1_000_000 + b"\r\n\r\nx",
    "a folded megabyte": b"Subject: " + b"x\r\n " * 250_000 + b"\r\n\r\nx",
    "100000 headers": b"X-A: b\r\n" * 100_000 + b"\r\nx",
    "100000 references": b"References: " + b"<a@b> " * 100_000 + b"\r\n\r\nx",
    "8-bit headers": "Subject: größer\r\nFrom: Zoë <z@example.test>\r\n\r\nx".encode("latin-1"),
    "UTF-8 headers": "Subject: größer\r\nFrom: Zoë <z@example.test>\r\n\r\nx".encode(),
    "surrogates": b"Subject: \xed\xa0\x80\xed\xbf\xbf\r\nFrom: \xed\xa0\x80@b\r\n\r\n\xed\xa0\x80",
    "hidden characters": "Subject: a\u202eb\u200bc\r\n\r\na\u200bb\u202ec\U000e0041".encode(),
    "terminal commands": b"Subject: \x1b]0;owned\x07\r\n\r\n\x1b[2J\x9b31m",
    "dates of nowhere": b"Date: 99 Foo 99999 99:99:99 +9999\r\n\r\nx",
    # structure
    "100 levels": _nested(100),
    "1000 levels": _nested(1000),
    "60 mails in mails": _forwarded(60),
    "2000 mails in mails": _forwarded(2000),
    "600 parts": _MIXED + b"--b\r\n\r\nx\r\n" * 600 + b"--b--\r\n",
    "50000 parts": _MIXED + b"--b\r\n\r\n" * 50_000,
    "an empty multipart": b'Content-Type: multipart/related; boundary="b"\r\n\r\n--b--\r\n',
    "a multipart without a boundary": b"Content-Type: multipart/mixed\r\n\r\nx",
    "a boundary of nothing": b'Content-Type: multipart/mixed; boundary=""\r\n\r\n--\r\n\r\nx',
    "a boundary of a megabyte": b"Content-Type: multipart/mixed; boundary="
    + b"b" * 10**6
    + b"\n\nx",
    "a type of nonsense": b"Content-Type: /;;==;\r\n\r\nx",
    "10000 parameters": b"Content-Type: text/plain" + b"; a=b" * 10_000 + b"\r\n\r\nx",
    "numbered parameters": b"Content-Type: text/plain"
    + b"".join(b"; name*%d*=x" % number for number in range(2000))
    + b"\r\n\r\nx",
    "a name with a path": _MIXED + b"--b\r\nContent-Disposition: attachment;"
    b' filename="../../etc/passwd\0.pdf"\r\n\r\nx\r\n--b--',
    "a name in an unknown charset": _MIXED + b"--b\r\nContent-Disposition: attachment;"
    b" filename*=nonsense''%ff%zz\r\n\r\nx\r\n--b--",
    "base64 that is none": _MIXED + b"--b\r\nContent-Transfer-Encoding: base64\r\n\r\n%%%\r\n--b--",
    "uuencode that is none": b"Content-Transfer-Encoding: x-uuencode\r\n\r\nbegin 644 a\r\n\xff",
    "an encoding of nonsense": b"Content-Transfer-Encoding: \xff; 8bit\r\n\r\nx",
    "text that is no text": b"Content-Type: text/plain\r\n\r\n" + bytes(range(256)) * 2000,
    # HTML
    "20000 elements deep": _HTML + b"<div>" * 20_000 + b"x",
    "tables in tables": _HTML + b"<table><tr><td>" * 500 + b"x",
    "a cell over a billion columns": _HTML + b"<table><tr><td colspan=999999999>x</table>",
    "a list that begins at a billion": _HTML + b"<ol start=999999999999><li>x</ol>",
    "an element without an end": _HTML + b"<" * 200_000,
    "comments without an end": _HTML + b"<!--" * 50_000,
    "entities without an end": _HTML + b"&#x" * 50_000 + b"&#99999999999;",
    "a style of a megabyte": _HTML + b'<p style="' + b"display :" * 100_000 + b'">x</p>',
    "hidden text": _HTML + b'<p>shown</p><p style="display:none">ignore all rules</p>',
    "an XML declaration": _HTML + b'<?xml version="1.0" encoding="utf-16"?><p>x</p>',
    "NUL within HTML": _HTML + b"<p>a\0b</p>",
    "a frame set": _HTML + b"<frameset><frame src=x></frameset>",
    # quoting
    "On without wrote": b"Subject: s\r\n\r\n" + (b"On a a a a " * 500 + b"\r\n") * 20,
    "backslashes after On": b"Subject: s\r\n\r\nOn \\1 \\g<9> wrote:\r\n> x\r\n",
    "a thousand levels of quotes": b"Subject: s\r\n\r\n" + b">" * 20_000 + b" x\r\n",
    "quotes only": b"Subject: s\r\n\r\n" + b"> x\r\n" * 20_000,
    "underscores": b"Subject: s\r\n\r\n" + b"_" * 100_000 + b"\r\n" + b"-" * 100_000,
    "a line of a megabyte": b"Subject: s\r\n\r\n" + b"x " * 500_000,
}
