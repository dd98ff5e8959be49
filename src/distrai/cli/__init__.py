"""The command line: verbs that parse, call and print. Nothing heavy is imported before a verb needs it."""
