"""Nearest vectors by cosine: exact search, and engines that prove their recall."""
