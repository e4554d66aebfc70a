"""What tests, benchmarks and evidence of all papers share; import the modules you need.

`contract` needs pytest, `benchmark_plugin` pytest-benchmark, and what measures people anywhere (`anywhere`,
`blemish_program`, `retouching_program`, `mesh_parsing`) scikit-image; they are tools of this repository and no
requirements of the package.
"""
