# Archives and folders -> prepared images, and labels in a tree of their own.


rule download:
    output:
        archive="resources/downloads/{key}/{file}",
        provenance="resources/downloads/{key}/{file}.provenance.json",
    log:
        "logs/download/{key}/{file}.log",
    wildcard_constraints:
        key="[0-9a-f]{8}",
        file="[^/]+(?<!\\.provenance\\.json)",
    localrule: True
    conda:
        "../../envs/data.yaml"
    params:
        *code("download"),
        options=download_options,
        local=local_sources,
        command=command("download"),
    message:
        "Download {wildcards.file}"
    shell:
        "python {params.command} --progress {log}.progress --provenance {output.provenance}"
        " --pin resources/checksums/{wildcards.file}.sha256 --output {output.archive} {params.options} > {log} 2>&1"


rule prefetch:
    input:
        downloads,
    localrule: True


rule prepare:
    input:
        archives=archives,
    output:
        images="results/data/{dataset}/{split}/images.bin",
        manifest="results/data/{dataset}/{split}/images.json",
        labels="results/labels/{dataset}/{split}/labels.npy",
        classes="results/labels/{dataset}/{split}/classes.json",
        ids="results/labels/{dataset}/{split}/ids.csv",
        provenance="results/data/{dataset}/{split}/images.provenance.json",
    log:
        "logs/prepare/{dataset}/{split}.log",
    conda:
        "../../envs/data.yaml"
    threads: 16
    params:
        *code("prepare"),
        loader_code=method_code("prepare", loader_modules),
        options=prepare_options,
        listings=listings,
        command=command("prepare", loader_modules),
        archives=archives_flag,
    message:
        "Prepare the {wildcards.split} images of {wildcards.dataset}"
    shell:
        "python {params.command} --progress {log}.progress --threads {threads} --provenance {output.provenance}"
        " --images {output.images} --labels {output.labels} {params.archives} {params.options} > {log} 2>&1"
