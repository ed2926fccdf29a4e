"""Where, when and in which order tasks run: driver, executors, Ray."""
