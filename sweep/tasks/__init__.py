"""What a worker runs: one file a kind; no Ray, no YAML, no store."""
