"""What a client can do wrong, beside sending what no request may hold."""

from __future__ import annotations

from hare_gym.errors import HareError


class MissingError(HareError):
    """There is no such round, user or item."""


class ConflictError(HareError):
    """It contradicts what the service knows already."""
