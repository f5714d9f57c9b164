"""Maps: segments or recordings in two dimensions, with their clusters described."""
