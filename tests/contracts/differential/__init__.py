"""The registry against a second, deliberately plain model of its rules, in sequences of actions that nobody chose."""
