"""What docs/benchmarks.md claims, measured: `python -m bench` prints it."""
