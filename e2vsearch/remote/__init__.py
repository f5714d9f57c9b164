"""Recordings in object stores and on web servers, read by fsspec."""
