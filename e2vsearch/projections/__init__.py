"""Projections map an encoder's vectors to what is compared, and adapt to a collection without labels."""
