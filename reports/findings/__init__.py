"""What the figures say: points, budgets, frontiers, decisions, prices and certainty."""
