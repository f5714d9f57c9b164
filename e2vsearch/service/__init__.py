"""The collection over HTTP. Knows requests and answers; everything else is the collection's."""
