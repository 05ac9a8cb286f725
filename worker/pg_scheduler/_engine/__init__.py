"""The worker's services. Each has one pass that tests call, ``run_once``, and a loop around it that the lifecycle owns."""
