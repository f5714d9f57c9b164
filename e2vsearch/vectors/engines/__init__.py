"""Engines beyond the embedded one: stores that propose candidates, and the index that is made of any of them."""
