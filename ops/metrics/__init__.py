"""Metrics: what is measured is defined in one table, read off the running process and exported for Prometheus."""
