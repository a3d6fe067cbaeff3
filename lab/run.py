"""Most tables of lab/performance.md; the others name their command. Takes some minutes; leave the machine alone."""

import data
import deepcluster
import extraction
import heads_kmeans
import heads_temi
import heads_turtle
import job_overhead
import memory_of_features
import planning
import precision
import training
import training_input

print("| what | measured | to reach | ratio to baseline |", "|---|---|---|---|", sep="\n")
BENCHMARKS = (
    planning,
    job_overhead,
    data,
    extraction,
    training,
    precision,
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
