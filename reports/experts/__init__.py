"""The section of the report about mixtures of experts."""
