"""What peers must agree on: types, messages, hashes, rounds, recipes. Pure: no I/O, no torch, no clock."""
