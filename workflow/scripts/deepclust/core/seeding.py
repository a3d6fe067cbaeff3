"""Seeds derived from names, so that every random decision can be repeated on its own."""

import hashlib


def derive_seed(*parts: int | str) -> int:
    """Return a 63-bit seed from any integers and strings, e.g. `derive_seed(seed, "augment", step)`.

    The same parts give the same seed on every machine and Python version; any other parts give an unrelated one. A
    training step that draws from such a seed has no generator state to save.
    """
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1
