"""The catalog: the SQL database, where truth lives, vectors included."""
