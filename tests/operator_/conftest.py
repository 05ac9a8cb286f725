"""What the operator's tests share."""

from support.api_server import server

__all__ = ["server"]
