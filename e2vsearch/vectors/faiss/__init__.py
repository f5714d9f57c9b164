"""The embedded engine: immutable FAISS generations on disk, verified against the catalog."""
