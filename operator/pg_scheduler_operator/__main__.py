"""``python -m pg_scheduler_operator`` is ``pgscheduler operator``."""

import sys

from pg_scheduler.cli import main

if __name__ == "__main__":
    main(["operator", *sys.argv[1:]])
