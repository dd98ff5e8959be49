"""DisTrAI: people who do not know each other train one model together over ordinary internet links."""

__version__ = "0.1.0"
