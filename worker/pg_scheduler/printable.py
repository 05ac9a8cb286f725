"""Text that somebody else has written, made fit for a terminal or a line of a log."""

from __future__ import annotations


def printable(text: str) -> str:
    """The text with escapes for all that does not print: line breaks, terminal codes, marks that turn the direction."""
    if text.isprintable():
        return text
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)


def shortened(text: str, most_bytes: int) -> str:
    """Its two ends and its size, where it is longer than so many bytes of UTF-8."""
    data = text.encode(errors="backslashreplace")
    if len(data) <= most_bytes:
        return text
    gap = f" … ({len(data)} bytes) … "
    half = (most_bytes - len(gap.encode())) // 2
    return data[:half].decode(errors="ignore") + gap + data[-half:].decode(errors="ignore")
