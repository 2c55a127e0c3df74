"""The tables of docs/performance.md."""


def write(results):
    """Writes the tables between their markers."""
