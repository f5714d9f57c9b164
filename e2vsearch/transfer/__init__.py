"""A collection as plain files, and back."""
