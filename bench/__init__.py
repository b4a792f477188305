"""Measurements beside limits and peers: `python -m bench.throughput`, `python -m bench.hotpath`; see README.md."""
