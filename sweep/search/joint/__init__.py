"""Search over all axes of a sweep at once (`sweep best NAME --search --joint`)."""
