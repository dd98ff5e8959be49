"""Jobs: any training script with a form in front of it, run in a process of its own.

``header.py`` reads the form from a template, ``runner.py`` runs it, ``store.py`` keeps what came of it. A template is
never imported or executed here, only in the job's own process.
"""
