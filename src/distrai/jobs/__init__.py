"""Jobs: any training script with a form in front of it, run in a process of its own.

``forms/`` reads the form from a template, ``data/`` checks what it learns from, ``estimates/`` says what that takes,
``running/`` runs it and keeps what came of it, ``models/`` and ``hub/`` have the finished model, ``records/`` what a
ledger is told. A template (``templates/``) is never imported or executed here, only in the job's own process, with
what ``support/`` has beside it.
"""
