"""``python -m e2vsearch``."""

from e2vsearch.cli import main

main()
