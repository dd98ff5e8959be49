"""How a template asks for values, and where templates are: read as text, never executed."""
