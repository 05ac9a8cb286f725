"""What a SQLSTATE means to whoever sent the statement.

Invariant: this table is the only place that decides it, for the error that a caller gets as for the pause that a
service makes. A longer entry wins over a shorter one: 53100 over 53.
"""

from enum import Enum, auto


class Fault(Enum):
    """What is at fault, and with it what to do."""

    LOST = auto()
    """The connection or the server: connect anew. What was sent may have been done: repeat only what is idempotent."""
    BUSY = auto()
    """The moment: the statement was undone; repeat it after a pause with jitter."""
    IMPAIRED = auto()
    """The server's means: repeating helps only once a person has acted; take nothing new, tell, keep beating."""
    NOT_READY = auto()
    """The schema, the rights or the pooler: waiting does not help."""
    CALLER = auto()
    """What was asked for: nobody repeats it."""


_FAULTS = {
    "08": Fault.LOST,
    "57P01": Fault.LOST,
    "57P02": Fault.LOST,
    "57P03": Fault.LOST,
    "57P04": Fault.LOST,
    "57P05": Fault.LOST,
    "25006": Fault.LOST,  # read-only: a standby, or what was the primary until now
    "25P03": Fault.LOST,  # idle_in_transaction_session_timeout and transaction_timeout end the session
    "25P04": Fault.LOST,
    "40001": Fault.BUSY,
    "40P01": Fault.BUSY,
    "55P03": Fault.BUSY,
    "57014": Fault.BUSY,
    "53300": Fault.BUSY,
    "53100": Fault.IMPAIRED,
    "53200": Fault.IMPAIRED,
    "58": Fault.IMPAIRED,
    "28": Fault.IMPAIRED,
    "42P01": Fault.NOT_READY,
    "42703": Fault.NOT_READY,
    "42883": Fault.NOT_READY,
    "42501": Fault.NOT_READY,
    "3D000": Fault.NOT_READY,
    "3F000": Fault.NOT_READY,
    "26000": Fault.NOT_READY,  # prepared statements that a pooler has lost or mixed up
    "42P05": Fault.NOT_READY,
    "22": Fault.CALLER,
    "23": Fault.CALLER,
    "54": Fault.CALLER,
    "XX": Fault.BUSY,  # its own mistakes, such as a relation that was dropped while it planned: the next try tells more
}


def fault_of(sqlstate: str | None) -> Fault | None:
    """What is at fault; None for a state that the table does not name, which is a mistake of ours.

    No state at all means that no server has answered.
    """
    if sqlstate is None:
        return Fault.LOST
    return _FAULTS.get(sqlstate) or _FAULTS.get(sqlstate[:2])
