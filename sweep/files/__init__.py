"""Files whole or not at all, the cache folder, folders behind a URL."""
