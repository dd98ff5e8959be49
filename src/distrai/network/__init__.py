"""Blobs and messages between peers."""
