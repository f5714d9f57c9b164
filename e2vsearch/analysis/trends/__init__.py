"""Trends: shares of emotions, labels or clusters over time and between groups of recordings."""
