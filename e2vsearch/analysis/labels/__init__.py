"""Labels of one's own: examples, a light classifier, an honest report, and what to label next."""
