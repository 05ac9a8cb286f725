"""Arguments that come from the environment of the worker."""

from __future__ import annotations
