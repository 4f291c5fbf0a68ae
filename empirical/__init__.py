"""Real networks, really trained. No theory in here."""

from .train import train

__all__ = ["train"]
