"""Side-by-side timings against other implementations; see benchmarks/README.md."""
