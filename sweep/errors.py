"""Errors that a user can act on: the command line prints their text, and no traceback."""

from __future__ import annotations


class SweepError(Exception):
    """A failure whose text is the whole message for the user."""

    exit_code = 1


class InputError(SweepError):
    """Something the user wrote cannot be used; the text may have one line per fault."""

    exit_code = 2


class ResourceError(SweepError):
    """Something the sweep needs does not exist here: a GPU, a package index, a file to fetch."""

    exit_code = 3


class StoreLockedError(SweepError):
    """Another driver writes to the store; the message says which."""

    exit_code = 2
