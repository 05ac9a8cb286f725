"""The addresses of a cluster and the bridge that bears them.

Invariant: every address is local to the sandbox's network namespace. The API server binds the address of its own
Service, so in-cluster configuration works in pods with neither kube-proxy nor firewall rules.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from cluster.processes import output_of

if TYPE_CHECKING:
    from collections.abc import Iterator

BRIDGE = "pgs0"
# Left alone, a bridge takes the lowest address of its ports: a pod that comes or goes then cuts off the others for as
# long as they believe in the old one, half a minute or more.
_BRIDGE_MAC = "0a:58:0a:f4:00:01"
API_SERVER = "10.96.0.1"
API_SERVER_URL = f"https://{API_SERVER}:443"
SERVICE_RANGE = "10.96.0.0/24"
POD_RANGE = "10.244.0.0/16"
# The pods' way to everything in the sandbox that is no pod: PostgreSQL, a proxy. Also the first node's address.
GATEWAY = "10.244.0.1"


def node_address(number: int) -> str:
    return f"10.244.0.{number}"


def pod_addresses(number: int) -> tuple[str, str]:
    """First and last address for the pods of a node."""
    return f"10.244.{number}.2", f"10.244.{number}.250"


def raise_bridge() -> None:
    """Made before any kubelet, which needs its node's address before there is a first pod to make the bridge for."""
    _ip("link", "add", BRIDGE, "address", _BRIDGE_MAC, "type", "bridge")
    _ip("link", "set", BRIDGE, "up")
    # In this order: the CNI plugin refuses a bridge whose first address is not the gateway's.
    add_node_address(1)
    _ip("address", "add", f"{API_SERVER}/32", "dev", BRIDGE)


def add_node_address(number: int) -> None:
    _ip("address", "replace", f"{node_address(number)}/16", "dev", BRIDGE)


def remove_bridge() -> None:
    _ip("link", "delete", BRIDGE)


@contextmanager
def cut_off(address: str, *, port: int) -> Iterator[None]:
    """Between a pod and a port of the sandbox nothing passes, and neither side is told."""
    rules = [
        ("INPUT", "--source", address, "--protocol", "tcp", "--destination-port", str(port)),
        ("OUTPUT", "--destination", address, "--protocol", "tcp", "--source-port", str(port)),
    ]
    for rule in rules:
        output_of(["iptables", "--wait", "--insert", *rule, "--jump", "DROP"])
    try:
        yield
    finally:
        for rule in rules:
            output_of(["iptables", "--wait", "--delete", *rule, "--jump", "DROP"])


def _ip(*arguments: str) -> None:
    output_of(["ip", *arguments])
