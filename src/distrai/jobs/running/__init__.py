"""A job's script as a process of its own: its environment, its confinement, its events and what came of it."""
