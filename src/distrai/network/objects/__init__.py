"""Object stores: blobs and messages through S3-compatible buckets, for peers that nobody can reach."""
