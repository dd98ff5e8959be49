"""Finished models: kept with a manifest, encrypted if wanted, verified, asked for text."""
