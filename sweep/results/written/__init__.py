"""The results table as files of a run folder, with what was measured of its points since."""
