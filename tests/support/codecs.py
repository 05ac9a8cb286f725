"""A codec of payloads for tests: text that is stored by it cannot be read, differs each time, and shows a wrong key."""

from __future__ import annotations

import hmac
import secrets
from hashlib import shake_256

NONCE, TAG = 16, 32


class KeyedCodec:
    """XOR with a stream of its key and a nonce, under a tag. It hides from a test's eyes, and from nobody else's."""

    def __init__(self, key: bytes = b"k") -> None:
        self._key = key

    def encode(self, data: bytes) -> bytes:
        nonce = secrets.token_bytes(NONCE)
        return nonce + self._tag(nonce, data) + self._mixed(nonce, data)

    def decode(self, data: bytes) -> bytes:
        nonce, tag = data[:NONCE], data[NONCE : NONCE + TAG]
        plain = self._mixed(nonce, data[NONCE + TAG :])
        if not hmac.compare_digest(tag, self._tag(nonce, plain)):
            raise PermissionError("not of this key")
        return plain

    def _mixed(self, nonce: bytes, data: bytes) -> bytes:
        stream = shake_256(self._key + nonce).digest(len(data))
        return bytes(a ^ b for a, b in zip(data, stream, strict=True))

    def _tag(self, nonce: bytes, data: bytes) -> bytes:
        return hmac.digest(self._key, nonce + data, "sha256")
