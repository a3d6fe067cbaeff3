"""The path of a run's results, which planning and the report share."""

RUN = "{dataset}/{backbones}/{head}/k{k}-{protocol}"


def run_path(dataset: str, backbones: str, head: str, k: int | str, protocol: str) -> str:
    """Return the path of a run's results below the folder of a stage.

    Args:
        backbones: their names, joined by `+`.
        k: the number of clusters, or `auto`.
    """
    return RUN.format(dataset=dataset, backbones=backbones, head=head, k=k, protocol=protocol)
