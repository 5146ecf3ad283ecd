"""Measure the project beside yardsticks in one run: `python -m bench`, or `make bench` (docs/performance.md)."""
