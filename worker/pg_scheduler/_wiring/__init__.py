"""The composition root: which part gets which. A module for each of the things that are put together."""
