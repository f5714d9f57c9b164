"""``python -m e2vsearch.cli``."""

from e2vsearch.cli import main

main()
