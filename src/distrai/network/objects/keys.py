"""What lies where in a member's bucket, and what proves whose it is."""

from distrai.protocol.keccak import tagged_hash
from distrai.protocol.primitives import Address, Hash

PROOF_KEY = "node"
"""The node key's signature of the bucket's URL: the bucket is the member's, as its record says that it is."""
BLOBS = "blob"
DOCUMENTS = "document"


def proof_digest(url: str, address: Address) -> Hash:
    """What the node key of ``address`` signs to show that the bucket at ``url`` is its own."""
    return tagged_hash("bucket", url.encode() + address)


def blob_key(hash_: Hash) -> str:
    """Where the bytes of a blob are."""
    return f"{BLOBS}/{hash_.hex()}"


def manifest_key(hash_: Hash) -> str:
    """Where the list of a blob's chunks is."""
    return f"{BLOBS}/{hash_.hex()}.manifest"


def document_key(name: str) -> str:
    """Where a document is."""
    return f"{DOCUMENTS}/{name}"
