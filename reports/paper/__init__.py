"""The tables and figures of the paper, beside those of runs."""
