"""What is to be done about one object: pure functions from what is wanted and what stands to actions.

Invariant: nothing here does I/O or reads a clock; planning again after the actions were done gives no action.
"""
