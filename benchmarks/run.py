"""All benchmarks: prints the tables of docs/performance.md. Takes some minutes; leave the machine alone meanwhile."""

import data
import extraction
import memory_of_features
import planning

print("| what | measured | to reach | ratio to baseline |", "|---|---|---|---|", sep="\n")
for benchmark in (planning, data, extraction):
    for row in benchmark.main():
        print(row, flush=True)
print()
memory_of_features.main()
