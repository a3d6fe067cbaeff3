# Backbones: the networks whose features are clustered.


rule pixels:
    input:
        unpack(inputs("pixels")),
    output:
        **outputs("pixels"),
    log:
        log_of("pixels"),
    wildcard_constraints:
        backbone=JOBS.graph.only_made_by("pixels"),
    localrule: True
    conda:
        "../../envs/torch.yaml"
    params:
        **job("pixels"),
    message:
        "Describe raw pixels as backbone {wildcards.backbone}"
    shell:
        COMMAND


rule fetch_weights:
    input:
        unpack(inputs("fetch_weights")),
    output:
        **outputs("fetch_weights"),
    log:
        log_of("fetch_weights"),
    wildcard_constraints:
        backbone=JOBS.graph.only_made_by("fetch_weights"),
    localrule: True
    conda:
        "../../envs/torch.yaml"
    params:
        **job("fetch_weights"),
    message:
        "Fetch the weights of backbone {wildcards.backbone}"
    shell:
        COMMAND


rule pretrain:
    input:
        unpack(inputs("pretrain")),
    output:
        **outputs(
            "pretrain",
            tensorboard=directory,
            snapshots=directory,
        ),
    log:
        log_of("pretrain"),
    wildcard_constraints:
        backbone=JOBS.graph.only_made_by("pretrain"),
    # Submitted by its own command, it only waits here.
    localrule: JOBS.parameters.launches_elsewhere()
    conda:
        "../../envs/torch.yaml"
    threads: 1 if JOBS.parameters.launches_elsewhere() else 64
    params:
        **job("pretrain"),
    message:
        "Pretrain backbone {wildcards.backbone}"
    shell:
        COMMAND


rule clean_states:
    log:
        "logs/clean_states.log",
    localrule: True
    conda:
        "../../envs/data.yaml"
    message:
        "Remove the states of unfinished trainings and the caches of finished ones"
    shell:
        "[ ! -d results ] || find results/ -depth -type d \\( -name '.state-*' -o -name '.seeds-*' \\) -print -exec rm -r '{{}}' \\;"
        " > {log} 2>&1"
