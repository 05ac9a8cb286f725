"""Manifests of a shop whose schedules meet: what ``simulate`` and ``lint`` are tried on."""

SHOP = """\
apiVersion: pgscheduler.io/v1alpha1
kind: PeriodicJob
metadata:
  name: sync-crm
  namespace: shop
  annotations:
    pgscheduler.io/expected-duration-seconds: "400"
spec:
  schedule:
    intervalSeconds: 300
  jobTemplate:
    spec:
      task: crm.sync
---
apiVersion: pgscheduler.io/v1alpha1
kind: PeriodicJob
metadata:
  name: nightly-report
  namespace: shop
  annotations:
    pgscheduler.io/expected-duration-seconds: "5400"
spec:
  schedule:
    cron: ["30 2 * * *"]
    timeZone: America/New_York
  startingDeadlineSeconds: 60
  jobTemplate:
    spec:
      task: reports.nightly
      priority: Low
---
apiVersion: pgscheduler.io/v1alpha1
kind: ScheduledJob
metadata:
  name: stock-taking
  namespace: shop
  annotations:
    pgscheduler.io/expected-duration-seconds: "1800"
spec:
  runAt: "2026-03-08T07:00:00Z"
  template:
    spec:
      task: stock.take
---
apiVersion: pgscheduler.io/v1alpha1
kind: WorkerPool
metadata:
  name: shop-workers
  namespace: shop
spec:
  targetRef:
    apiVersion: apps/v1
    kind: Deployment
    name: shop-workers
  slotsHint: 1
  autoscaling:
    maxReplicas: 2
"""
