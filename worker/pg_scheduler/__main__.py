"""``python -m pg_scheduler`` is ``pgscheduler``."""

from pg_scheduler.cli import main

if __name__ == "__main__":
    main()
