"""Measurements beside limits and peers: `python -m bench.throughput`, …; see README.md."""
