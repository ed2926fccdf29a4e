"""Files of allocations: which shares a model's layers and groups get."""
