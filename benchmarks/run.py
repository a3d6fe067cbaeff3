"""All benchmarks: prints the tables of docs/performance.md. Takes some minutes; leave the machine alone meanwhile."""

import data
import memory_of_features
import planning
import training

print("| what | measured | to reach | ratio to baseline |", "|---|---|---|---|", sep="\n")
for benchmark in (planning, data, training):
    print(*benchmark.main(), sep="\n", flush=True)
print()
memory_of_features.main()
