"""The program that acts for a member: a pure engine, the runtime around it, and what it stores."""
