"""What is decided here is decided without I/O, without a clock and without asyncio: values in, values out."""
