"""The URLs of buckets: where anybody may read what a member has put into its own object store.

``s3+https://HOST[:PORT][/BUCKET[/PREFIX]]``: an object's address is that without ``s3+``, and its key behind it. What
stands between the host and the keys is the store's affair: with a public domain of its own a bucket needs no name.
"""

import re
from collections.abc import Sequence
from dataclasses import replace

from yarl import URL

from distrai.network.interface import Endpoint

_MARK = "s3+"
_SCHEMES = ("http", "https")
_SEGMENT = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9._~-]+")


def is_bucket(url: str) -> bool:
    """Whether a URL is (or pretends to be) that of a bucket, and not that of a peer."""
    return url.startswith(_MARK)


def bucket_url(address: str) -> str:
    """The URL to tell others, of the address where everything in a bucket can be read. Raises ValueError."""
    url = _MARK + address.removeprefix(_MARK).rstrip("/")
    base_of(url)
    return url


def base_of(url: str) -> URL:
    """The address that keys are appended to. Raises ValueError that says how such a URL looks."""
    parsed = URL(url.removeprefix(_MARK))
    is_plain = is_bucket(url) and parsed.scheme in _SCHEMES and parsed.host
    segments = parsed.raw_path.strip("/").split("/") if parsed.raw_path.strip("/") else []
    if (
        not is_plain
        or parsed.user
        or parsed.password
        or parsed.query_string
        or parsed.fragment
        or not all(_SEGMENT.fullmatch(segment) for segment in segments)
    ):
        raise ValueError(
            f"{url[:200]!r} is no URL of a bucket; those look like s3+https://host/bucket/prefix"
        )
    return URL.build(
        scheme=parsed.scheme,
        host=parsed.host or "",
        port=parsed.explicit_port,
        path="/" + "/".join(segments),
    )


def bucket_urls(urls: Sequence[str]) -> tuple[str, ...]:
    """Those URLs that lead to buckets."""
    return tuple(url for url in urls if is_bucket(url))


def without_buckets(endpoint: Endpoint) -> Endpoint:
    """The same endpoint with the URLs that lead to the peer itself."""
    urls = tuple(url for url in endpoint.urls if not is_bucket(url))
    return replace(endpoint, urls=urls)
