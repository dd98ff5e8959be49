"""Training: model, data, objective, inner loop, evaluation, export.

Knows nothing of networks, ledgers or peers.

Import what is needed from its modules: this package imports nothing, so that ``training.data`` works without
torch.
"""
