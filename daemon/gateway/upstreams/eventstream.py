"""AWS's event stream encoding: messages out of chunks cut anywhere, and into bytes. Pure.

A message: its length, the length of its headers, the CRC-32 of these eight bytes; headers; payload;
the CRC-32 of all before it. Big-endian. Source:
https://docs.aws.amazon.com/transcribe/latest/dg/streaming-setting-up.html, "Event stream encoding".
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from daemon.gateway.upstreams.dialect import GarbledError

_PRELUDE = struct.Struct(">III")
_CRC = struct.Struct(">I")
_LENGTH = struct.Struct(">H")
_STRING = 7
MOST_BYTES = 16 << 20  # of one message: what the services themselves keep to


@dataclass(frozen=True, slots=True)
class EventMessage:
    """`headers` are those of type string, the only ones that the services send."""

    headers: Mapping[str, str]
    payload: bytes

    def encode(self) -> bytes:
        """As it goes over the wire: for stand-ins."""
        headers = b"".join(
            bytes((len(name),)) + name.encode() + bytes((_STRING,)) + _sized(value.encode())
            for name, value in self.headers.items()
        )
        total = _PRELUDE.size + len(headers) + len(self.payload) + _CRC.size
        prelude = struct.pack(">II", total, len(headers))
        whole = prelude + _CRC.pack(zlib.crc32(prelude)) + headers + self.payload
        return whole + _CRC.pack(zlib.crc32(whole))


class EventBuffer:
    """Bytes in, whole messages out."""

    def __init__(self) -> None:
        self._held = bytearray()

    @property
    def empty(self) -> bool:
        return not self._held

    def feed(self, chunk: bytes) -> Iterator[EventMessage]:
        """Raises GarbledError."""
        self._held += chunk
        while len(self._held) >= _PRELUDE.size:
            total, headers, crc = _PRELUDE.unpack_from(self._held)
            if zlib.crc32(self._held[:8]) != crc:
                raise GarbledError("the beginning of a message is not whole")
            if not _PRELUDE.size + headers + _CRC.size <= total <= MOST_BYTES:
                raise GarbledError("a message's lengths make no sense")
            if len(self._held) < total:
                return
            message = bytes(self._held[:total])
            del self._held[:total]
            if zlib.crc32(message[:-4]) != _CRC.unpack_from(message, total - 4)[0]:
                raise GarbledError("a message is not whole")
            begin = _PRELUDE.size + headers
            yield EventMessage(_headers(message[_PRELUDE.size : begin]), message[begin:-4])


def _headers(data: bytes) -> dict[str, str]:
    found, at = {}, 0
    try:
        while at < len(data):
            end = at + 1 + data[at]
            name, kind = data[at + 1 : end].decode(), data[end]
            if kind != _STRING:
                raise GarbledError(f"a header of type {kind}")
            (length,) = _LENGTH.unpack_from(data, end + 1)
            at = end + 3 + length
            found[name] = data[end + 3 : at].decode()
    except (IndexError, struct.error, UnicodeDecodeError):
        raise GarbledError("a message's headers make no sense") from None
    return found


def _sized(value: bytes) -> bytes:
    return _LENGTH.pack(len(value)) + value
