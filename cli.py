"""Launcher for a checkout: ``python cli.py query ref.wav -k 20``. The commands live in e2vsearch/cli.py."""

from e2vsearch.cli import main

if __name__ == "__main__":
    main()
