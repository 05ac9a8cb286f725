"""What the API server says it was asked."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cluster.cluster import Cluster

_REQUESTS = re.compile(r"^apiserver_request_total\{(?P<labels>[^}]*)\} (?P<count>\S+)$", re.MULTILINE)


def status_writes(cluster: Cluster, plural: str) -> int:
    """How many patches of the statuses of a kind it has taken, since it was started."""
    wanted = {'code="200"', f'resource="{plural}"', 'subresource="status"', 'verb="PATCH"'}
    found = _REQUESTS.finditer(cluster.api.get_text("/metrics"))
    return sum(int(float(one["count"])) for one in found if wanted <= {*one["labels"].split(",")})
