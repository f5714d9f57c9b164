"""The collection inside other people's frameworks: one tiny room each, none importing another."""
