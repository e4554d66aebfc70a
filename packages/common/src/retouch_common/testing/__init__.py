"""What tests, benchmarks and evidence of all papers share; import the modules you need.

`contract` needs pytest, `benchmark_plugin` pytest-benchmark; they are tools of this repository and no
requirements of the package.
"""
