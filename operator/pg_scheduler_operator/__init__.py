"""Custom resources become rows, and rows become statuses: in Kubernetes, and over a folder of files.

The way of data: ``watch`` (or ``gateway.files``) puts keys into the queue of ``reconciler``, which reads the object and
its row, has ``reconcile`` plan, and ``execute`` do it through ``gateway``. Imports go down that line only.
"""
