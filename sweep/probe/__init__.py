"""The machine itself: what its storage, memory and processor do, measured, and a device file."""
