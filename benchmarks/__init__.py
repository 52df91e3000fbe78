"""Speed and memory, each measured beside a baseline; docs/benchmarks.md has the figures."""
