"""Models and texts: what a name means, where it lies, how it gets here."""
