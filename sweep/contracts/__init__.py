"""What every executor, store and selector keeps, as rules to run on one of your own."""
