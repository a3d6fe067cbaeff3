# Backbones: the networks whose features are clustered.


rule pixels:
    input:
        known_backbone,
    output:
        model="results/backbones/{backbone}/model.json",
        weights="results/backbones/{backbone}/model.safetensors",
        provenance="results/backbones/{backbone}/model.provenance.json",
    log:
        "logs/pixels/{backbone}.log",
    wildcard_constraints:
        backbone=f"(?!({made_otherwise()})/){NAME}",
    localrule: True
    conda:
        "../../envs/torch.yaml"
    params:
        *code("pixels"),
        options=backbone_options,
        command=command("pixels"),
    message:
        "Describe raw pixels as backbone {wildcards.backbone}"
    shell:
        "python {params.command} --progress {log}.progress --provenance {output.provenance}"
        " --model {output.model} {params.options} > {log} 2>&1"


rule fetch_weights:
    input:
        unpack(weights_files),
    output:
        model="results/backbones/{backbone}/model.json",
        weights="results/backbones/{backbone}/model.safetensors",
        provenance="results/backbones/{backbone}/model.provenance.json",
    log:
        "logs/fetch_weights/{backbone}.log",
    wildcard_constraints:
        backbone=names_where(EXPERIMENT.is_fetched),
    localrule: True
    conda:
        "../../envs/torch.yaml"
    params:
        *code("fetch_weights"),
        options=backbone_options,
        states=weights_states,
        command=command("fetch_weights"),
        files=weights_flags,
    message:
        "Fetch the weights of backbone {wildcards.backbone}"
    shell:
        "python {params.command} --progress {log}.progress --provenance {output.provenance}"
        " --output {output.model} {params.files} {params.options} > {log} 2>&1"


rule pretrain:
    input:
        unpack(pretrain_inputs),
    output:
        model="results/backbones/{backbone}/model.json",
        weights="results/backbones/{backbone}/model.safetensors",
        native="results/backbones/{backbone}/native.safetensors",
        log="results/backbones/{backbone}/training.jsonl",
        tensorboard=directory("results/backbones/{backbone}/tensorboard"),
        snapshots=directory("results/backbones/{backbone}/snapshots"),
        provenance="results/backbones/{backbone}/model.provenance.json",
    log:
        "logs/pretrain/{backbone}.log",
    wildcard_constraints:
        backbone=names_where(EXPERIMENT.is_pretrained_here),
    # Submitted by its own command, it only waits here.
    localrule: EXPERIMENT.launches_elsewhere()
    conda:
        "../../envs/torch.yaml"
    threads: 1 if EXPERIMENT.launches_elsewhere() else 64
    params:
        *code("pretrain"),
        method_code=method_code("pretrain", backbone_modules),
        options=backbone_options,
        command=command("pretrain", backbone_modules),
        start=start_flags,
        launcher=launcher_flags,
    message:
        "Pretrain backbone {wildcards.backbone}"
    shell:
        "python {params.command} --progress {log}.progress --threads {threads} --provenance {output.provenance}"
        " --images {input.images} --model {output.model} --log {output.log} --tensorboard {output.tensorboard}"
        " --snapshots {output.snapshots} {params.start} {params.launcher} {params.options} > {log} 2>&1"


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
