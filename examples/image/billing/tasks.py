"""The tasks that the image's workers know: `worker.apps={billing.tasks}`."""

from pg_scheduler import task


@task(name="billing.send_invoice")
async def send_invoice(customer: str, cents: int) -> str:
    """What a customer owes, as a line for the ledger."""
    return f"{customer} owes {cents // 100}.{cents % 100:02d}"
