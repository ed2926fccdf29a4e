"""lm-eval: its tasks, data, requests and scores on sparse models."""
