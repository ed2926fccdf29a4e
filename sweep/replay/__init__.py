"""Reads of a run's points, done on a disk: predicted beside measured."""
