"""The version, for rooms that may not import the package."""

__version__ = "0.1.0"
