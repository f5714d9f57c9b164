"""e2vsearch: find the calls, and the moments in them, that feel like a reference clip."""

__version__ = "0.1.0"
