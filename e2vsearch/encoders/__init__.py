"""Encoders turn 16 kHz signals into vectors of one space, and open by name."""
