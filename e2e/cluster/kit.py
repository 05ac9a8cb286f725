"""What preparation hands to the sandbox, where nothing can be fetched or built any more."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Self

_VARIABLE = "PGSCHEDULER_E2E_KIT"


class NotPreparedError(Exception):
    """There is no kit: the tests were started without e2e/run.py."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kit:
    """`binaries`: the folder of Kubernetes' programs, `helm` of Helm's. `images`: archives that every node loads."""

    binaries: Path
    helm: Path
    images: tuple[Path, ...] = ()

    def to_environment(self) -> dict[str, str]:
        fields = {"binaries": str(self.binaries), "helm": str(self.helm), "images": [*map(str, self.images)]}
        return {_VARIABLE: json.dumps(fields)}

    @classmethod
    def from_environment(cls) -> Self:
        if _VARIABLE not in os.environ:
            raise NotPreparedError("this needs what `python e2e/run.py` prepares: start the tests with it")
        fields = json.loads(os.environ[_VARIABLE])
        images = tuple(map(Path, fields["images"]))
        return cls(binaries=Path(fields["binaries"]), helm=Path(fields["helm"]), images=images)
