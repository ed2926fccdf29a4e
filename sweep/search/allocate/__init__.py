"""`sweep allocate`: shares for layers and groups by measured sensitivities."""
