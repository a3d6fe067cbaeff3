"""All benchmarks: prints the tables of docs/performance.md. Takes some minutes; leave the machine alone meanwhile."""

import data
import deepcluster
import extraction
import heads_kmeans
import heads_temi
import heads_turtle
import job_overhead
import memory_of_features
import planning
import training
import training_input

print("| what | measured | to reach | ratio to baseline |", "|---|---|---|---|", sep="\n")
BENCHMARKS = (
    planning,
    job_overhead,
    data,
    extraction,
    training,
    training_input,
    heads_kmeans,
    heads_temi,
    heads_turtle,
    deepcluster,
)
for benchmark in BENCHMARKS:
    for row in benchmark.main():
        print(row, flush=True)
print()
memory_of_features.main()
