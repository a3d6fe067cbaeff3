"""All benchmarks: prints the tables of docs/performance.md. Takes some minutes; leave the machine alone meanwhile."""

import data
import extraction
import heads_kmeans
import heads_temi
import heads_turtle
import job_overhead
import memory_of_features
import planning
import training

print("| what | measured | to reach | ratio to baseline |", "|---|---|---|---|", sep="\n")
for benchmark in (planning, job_overhead, data, extraction, training, heads_kmeans, heads_temi, heads_turtle):
    for row in benchmark.main():
        print(row, flush=True)
print()
memory_of_features.main()
