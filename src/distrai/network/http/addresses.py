"""Where a peer listens, and what it tells others of that."""

from ipaddress import ip_address

from yarl import URL

from distrai.network.http.sockets import is_loopback


class BadAddress(ValueError):
    """An address to listen on or to tell others cannot be right; the message says which would be."""


def is_own(host: str) -> bool:
    """Whether a host is this machine alone: a loopback address, or ``localhost``."""
    try:
        return is_loopback(host)
    except ValueError:
        return host.lower() == "localhost"


def is_everywhere(host: str) -> bool:
    """Whether a host stands for all addresses of a machine, and so for none that could be told to others."""
    try:
        return not host or ip_address(host).is_unspecified
    except ValueError:
        return False


def check_listening(host: str, advertise: str, *, tls: bool) -> None:
    """Raises BadAddress where others could not be told, or could listen in."""
    if is_everywhere(host) and not advertise:
        raise BadAddress(
            f"{host!r} means all addresses of this machine: say with --advertise under which one others reach it"
        )
    if not tls and not is_own(host):
        raise BadAddress(f"without TLS a peer listens on loopback addresses alone, and {host!r} is none")


def url_to_tell(host: str, port: int, advertise: str, *, tls: bool) -> str:
    """The URL of a peer that is bound to ``host`` and ``port``. Raises BadAddress.

    ``advertise`` is what counts instead, where others see another address: a host, a host and a port, or a URL.
    """
    scheme = "https" if tls else "http"
    if not advertise:
        return str(URL.build(scheme=scheme, host=host, port=port))
    text = advertise if "://" in advertise else f"{scheme}://{_bracketed(advertise)}"
    try:
        url = URL(text)
        told = URL.build(scheme=scheme, host=url.host or "", port=url.explicit_port or port)
    except ValueError:
        url = told = URL()
    is_bare = url.path in ("", "/") and not (url.user or url.password or url.query_string or url.fragment)
    if url.scheme != scheme or not is_bare or is_everywhere(told.host or ""):
        raise BadAddress(
            f"{advertise!r} is no address for others: it looks like 192.0.2.7, peer.example:4001 or {scheme}://host:port"
        )
    return str(told)


def _bracketed(host: str) -> str:
    return f"[{host}]" if host.count(":") > 1 and not host.startswith("[") else host
