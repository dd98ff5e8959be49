"""The default transport: HTTP between peers."""

from distrai.network.http.transport import HttpTransport

__all__ = ["HttpTransport"]
