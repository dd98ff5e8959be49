"""What a user does with a run: open it, train it on this machine, replay it, export its model."""
