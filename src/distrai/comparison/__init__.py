"""Several algorithms on equal tokens and equal data inside one process: ``distrai compare``."""
