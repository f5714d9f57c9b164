"""Analyses of an open collection: labels, maps, projections and the yardstick."""
