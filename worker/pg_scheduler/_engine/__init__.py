"""The worker's services: each one pass, ``run_once``, that tests call, and a loop that the lifecycle owns."""
