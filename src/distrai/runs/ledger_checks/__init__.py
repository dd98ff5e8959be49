"""What a ledger says of runs and money, checked: its events against each other, and against what its contracts hold."""
