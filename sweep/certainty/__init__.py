"""How a table of choices becomes certain: planned looks, levels, and windows where they matter."""
