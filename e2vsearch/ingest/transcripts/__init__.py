"""Transcripts: read, aligned with segments by time, and stored."""
