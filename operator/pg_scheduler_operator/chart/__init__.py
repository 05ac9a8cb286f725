"""What the Helm chart's pods run beside operators and workers: its hooks, its test, a database to try things out."""
