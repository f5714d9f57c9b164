"""The yardstick: how well a space finds the same emotion, in other voices and other words."""
