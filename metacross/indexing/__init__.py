"""What `metacross index` does: encode and index a large source once for many runs."""
