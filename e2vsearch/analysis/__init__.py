"""What a collection's vectors say of the whole: maps with clusters, labels of one's own and their classifiers.

Knows an open collection and numbers, nothing of files that are printed or of requests.
"""
