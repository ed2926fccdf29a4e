"""Flash as it is, in tasks: masks at a fixed price of reads, and orders of units in the file."""
