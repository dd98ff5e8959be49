"""Object stores: blobs and messages through S3-compatible buckets, for peers that nobody can reach."""

from distrai.network.objects.bucket import BucketAccess, BucketFailed
from distrai.network.objects.mixed import MixedTransport
from distrai.network.objects.settings import StoreSettings, find_settings
from distrai.network.objects.transport import ObjectTransport

__all__ = [
    "BucketAccess",
    "BucketFailed",
    "MixedTransport",
    "ObjectTransport",
    "StoreSettings",
    "find_settings",
]
