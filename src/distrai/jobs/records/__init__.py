"""The training record of a job on a ledger: what is claimed, told and closed, and how it is read again."""
