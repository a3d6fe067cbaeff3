# Scores. The only rules, beside the figures, that read labels.


rule probe:
    input:
        unpack(inputs("probe")),
    output:
        **outputs("probe"),
    log:
        log_of("probe"),
    conda:
        "../../envs/evaluation.yaml"
    threads: 16
    params:
        **job("probe"),
    message:
        "Ceilings of {wildcards.backbones} on {wildcards.dataset}: k-NN and linear probe"
    shell:
        COMMAND


rule score_snapshots:
    input:
        unpack(inputs("score_snapshots")),
    output:
        **outputs("score_snapshots"),
    log:
        log_of("score_snapshots"),
    conda:
        "../../envs/snapshots.yaml"
    threads: 16
    params:
        **job("score_snapshots"),
    message:
        "Score the snapshots of {wildcards.backbone} on {wildcards.dataset}"
    shell:
        COMMAND


rule probe_layers:
    input:
        unpack(inputs("probe_layers")),
    output:
        **outputs("probe_layers"),
    log:
        log_of("probe_layers"),
    conda:
        "../../envs/torch.yaml"
    threads: 16
    params:
        **job("probe_layers"),
    message:
        "Linear probes behind the stages of {wildcards.backbone} on {wildcards.dataset}"
    shell:
        COMMAND


rule evaluate:
    input:
        unpack(inputs("evaluate", cost=ancient)),
    output:
        **outputs("evaluate"),
    log:
        log_of("evaluate"),
    conda:
        "../../envs/evaluation.yaml"
    threads: 2
    params:
        **job("evaluate"),
    message:
        "Score {wildcards.head} on {wildcards.backbones}: {wildcards.dataset}, k = {wildcards.k}"
    shell:
        COMMAND


rule leaderboard:
    input:
        unpack(inputs("leaderboard")),
    output:
        **outputs(
            "leaderboard",
            table=partial(
                report,
                caption="../report/leaderboard.rst",
                category="Leaderboard",
                labels={"what": "All runs", "as": "table"},
            ),
        ),
    log:
        log_of("leaderboard"),
    localrule: True
    conda:
        "../../envs/evaluation.yaml"
    params:
        **job("leaderboard"),
    message:
        "Put all runs into one table"
    shell:
        COMMAND
