"""The data of a job before anything is spent: checked, counted, divided."""
