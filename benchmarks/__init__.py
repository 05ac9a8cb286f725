"""The library beside a bare asyncpg loop, on the same server in the same run: ``python -m benchmarks``.

Invariant: only the library's public names are used, and what is measured of ours is measured of the bare loop too, in
turn with it, on a database as new as ours.
"""
