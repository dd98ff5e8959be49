"""Data: corpora cut into content-addressed shards, their manifest, and the samples in them."""
