"""Compiled loops over tokens, each proven equal to the reference in `simulator.policies`.

They take checked arrays only and never raise; the public functions around them check the input.
None uses fast-math, none depends on the number of threads, all release the GIL.
"""
