"""Files to recordings in the catalog: one transaction each, resumable."""
