"""The engine under virtual time and seeded faults."""
