"""An EVM chain of one's own: py-evm on SQLite behind a small JSON-RPC server.

It has **one operator and is no consensus**: whoever runs it decides what lands. It is what a local run, a classroom or
a group of friends needs; anything with strangers or money wants a real chain, through the same client.
Nothing is exported here, so that importing a part does not load the EVM.
"""
