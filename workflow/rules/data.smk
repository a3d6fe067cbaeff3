# Archives and folders -> prepared images, and labels in a tree of their own.


rule download:
    output:
        **outputs("download"),
    log:
        log_of("download"),
    wildcard_constraints:
        key="[0-9a-f]{8}",
        file="[^/]+(?<!\\.provenance\\.json)",
    localrule: True
    conda:
        "../../envs/data.yaml"
    params:
        **job("download"),
    message:
        "Download {wildcards.file}"
    shell:
        COMMAND


rule prefetch:
    input:
        JOBS.graph.downloads(),
    localrule: True


rule prepare:
    input:
        unpack(inputs("prepare")),
    output:
        **outputs("prepare"),
    log:
        log_of("prepare"),
    conda:
        "../../envs/data.yaml"
    threads: 16
    params:
        **job("prepare"),
    message:
        "Prepare the {wildcards.split} images of {wildcards.dataset}"
    shell:
        COMMAND
