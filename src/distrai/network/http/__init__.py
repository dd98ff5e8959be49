"""The default transport: HTTP between peers."""

from distrai.network.http.addresses import BadAddress
from distrai.network.http.client import HttpPatience
from distrai.network.http.server import ServerLimits
from distrai.network.http.tls import TlsKey
from distrai.network.http.transport import HttpTransport

__all__ = ["BadAddress", "HttpPatience", "HttpTransport", "ServerLimits", "TlsKey"]
