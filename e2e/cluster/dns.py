"""Names of Services, for pods: what CoreDNS is in other clusters.

Invariant: it knows what the API server knows at that moment. Services without an address of their own resolve to their
pods; others have none that works here.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from dnslib import QTYPE, RCODE, RR, A
from dnslib.server import BaseResolver, DNSServer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dnslib import DNSRecord
    from dnslib.server import DNSHandler

    from cluster.api import Api

DOMAIN = "cluster.local"
_SECONDS = 1


class _Services(BaseResolver):  # type: ignore[misc]  # of a package without types
    def __init__(self, api: Api) -> None:
        self._api = api

    def resolve(self, request: DNSRecord, handler: DNSHandler) -> DNSRecord:
        del handler
        reply = request.reply()
        addresses = self._addresses(str(request.q.qname).rstrip("."))
        if addresses is None:
            reply.header.rcode = RCODE.NXDOMAIN
        elif request.q.qtype == QTYPE.A:
            for address in addresses:
                reply.add_answer(RR(request.q.qname, QTYPE.A, rdata=A(address), ttl=_SECONDS))
        return reply

    def _addresses(self, name: str) -> list[str] | None:
        """Of `service.namespace.svc`; None when there is no such Service."""
        parts = name.removesuffix(f".{DOMAIN}").split(".")
        if len(parts) != 3 or parts[2] != "svc":
            return None
        service, namespace, _ = parts
        found = self._api.get(f"/api/v1/namespaces/{namespace}/endpoints/{service}")
        if found is None:
            return None
        subsets = found.get("subsets") or ()
        return [address["ip"] for subset in subsets for address in subset.get("addresses") or ()]


@contextmanager
def serving(api: Api, address: str) -> Iterator[None]:
    server = DNSServer(_Services(api), address=address, port=53)
    server.start_thread()
    try:
        yield
    finally:
        server.stop()
        server.server.server_close()
