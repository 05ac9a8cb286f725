"""``python -m pg_scheduler_operator.plugin`` is ``kubectl pgscheduler``."""

from pg_scheduler_operator.plugin import main

if __name__ == "__main__":
    main()
