"""What a command tells the shell beside 0, which is done.

Invariant: importing this module imports nothing: Ctrl-C has its code before anything else is there.
"""

EXIT_NO = 1
"""The answer is no."""
EXIT_USAGE = 2
EXIT_UNREACHABLE = 3
"""PostgreSQL or Kubernetes does not answer."""
EXIT_STALLED = 70
"""A worker's event loop stood still."""
EXIT_TRY_AGAIN = 75
"""An operator has lost its Lease."""
EXIT_INTERRUPTED = 130
