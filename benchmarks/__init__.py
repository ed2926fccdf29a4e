"""The measurements behind every claim of speed: `python -m benchmarks [PART …]`."""
