"""The service: metacross over HTTP, on Ray Serve."""
