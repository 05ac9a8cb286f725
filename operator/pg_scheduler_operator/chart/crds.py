"""The custom resource definitions of this version, in a cluster that has older ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pg_scheduler_operator import crdgen

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from pg_scheduler_operator.gateway.kube import KubeApi


async def apply_all(api: KubeApi) -> AsyncIterator[str]:
    """Apply each; its name once that is done."""
    for body in crdgen.crds():
        name = body["metadata"]["name"]
        await api.apply(f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{name}", body)
        yield name
