"""What the contract tests stand on: an EVM in memory, and players who call the registry."""
