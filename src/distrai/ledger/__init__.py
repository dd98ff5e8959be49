"""The ledger, which decides order and membership: its client, its embedded chain, and the keys that sign for it."""
