"""The discovery beside its yardsticks: `python -m bench.discovery [--quick] [--only calls|routes]`."""
