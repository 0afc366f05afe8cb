"""How a demo fails."""

from __future__ import annotations


class DemoError(Exception):
    """Something that the demo promises does not hold, or the machine lacks what it needs."""
