"""Which points are wanted, and the fewest tasks that answer them."""
