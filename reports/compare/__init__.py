"""Two or more runs side by side: what changed, how sure that is, and a gate for CI."""
