"""Shared parts of tests, benchmarks and evidence of all papers, tools of this repository.

They may need what the package does not require: `contract` pytest, `benchmark_plugin` pytest-benchmark, and `anywhere`
and `blemish_program` scikit-image.
"""
