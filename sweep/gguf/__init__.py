"""GGUF files, read whole or refused by name: parts, metadata, words and tensors."""
