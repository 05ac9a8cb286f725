"""A worker's probes and metrics over HTTP: the extra ``worker``; nothing else of the library imports it."""
