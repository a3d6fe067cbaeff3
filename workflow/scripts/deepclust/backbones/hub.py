"""Files from the Hugging Face hub, through its own client: its cache, token, endpoint and offline mode hold.

Users of that client know HF_HOME (cache), HF_TOKEN, HF_ENDPOINT and HF_HUB_OFFLINE.
"""

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from deepclust.core.addresses import HubFile, hub_address
from deepclust.core.errors import DeepclustError, some_of
from deepclust.core.files import sha256_file
from deepclust.core.progress import Progress

_SHOWN = 8  # files that an error names at most


class RevisionError(DeepclustError):
    """A repository has no such revision."""


def fetch_from_hub(wanted: HubFile, progress: Progress) -> tuple[Path, str]:
    """Get a file from the cache or the hub, and the commit it belongs to.

    Raises:
        DeepclustError: it cannot be had, with the reason and what to do; or another file arrived than the hub has.
    """
    from huggingface_hub import hf_hub_download

    with _explained(wanted):
        downloaded = hf_hub_download(
            wanted.repository, wanted.file, revision=wanted.revision, tqdm_class=_bar_class(wanted, progress)
        )
    path = Path(downloaded)
    # The cache names large files by their SHA-256: snapshots/<commit>/<file> points to blobs/<sha256>.
    blob = path.resolve()
    if re.fullmatch("[0-9a-f]{64}", blob.name) and sha256_file(blob) != blob.name:
        with contextlib.suppress(OSError):  # a cache that is shared may be read-only
            blob.unlink()
            path.unlink(missing_ok=True)
        raise DeepclustError(f"{_name(wanted)} arrived damaged (its SHA-256 differs from the hub's): run again")
    return path, path.parents[len(PurePosixPath(wanted.file).parts) - 1].name


def _bar_class(wanted: HubFile, progress: Progress) -> type[Any]:
    """Return a tqdm class that reports to `progress`; the client makes one bar per file."""
    from tqdm import tqdm

    class Bar(tqdm):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **{**options, "disable": False, "file": _Silent()})
            self._stack = contextlib.ExitStack()
            what = f"download {wanted.repository}"
            total = None if self.total is None else int(self.total)
            self._task = self._stack.enter_context(progress.task(what, total, "B", done=int(self.n)))

        def update(self, n: float | None = 1) -> None:
            self._task.advance(int(n or 0))
            super().update(n)

        def close(self) -> None:
            if hasattr(self, "_stack"):
                self._stack.close()
            super().close()

    return Bar


class _Silent:
    """A stream for bars that paint nothing themselves."""

    def write(self, text: str) -> int:
        return len(text)

    def flush(self) -> None:
        pass


@contextlib.contextmanager
def _explained(wanted: HubFile) -> Iterator[None]:
    """Turn the client's errors into one line that says what to do."""
    from huggingface_hub import constants, errors

    name, page = _name(wanted), f"{constants.ENDPOINT}/{wanted.repository}"
    try:
        yield
    except errors.GatedRepoError as error:
        raise DeepclustError(
            f"{name} is gated: accept its terms at {page}, then log in (`hf auth login`) or set HF_TOKEN"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise RevisionError(f"{page} has no revision {wanted.revision}: see {page}/commits/main") from error
    except errors.RepositoryNotFoundError as error:
        raise DeepclustError(
            f"there is no repository {wanted.repository} at {constants.ENDPOINT}, or it is private: check its name "
            "(it may have been renamed or withdrawn), or log in (`hf auth login`) or set HF_TOKEN"
        ) from error
    except errors.LocalEntryNotFoundError as error:
        cause = error.__cause__
        refused = isinstance(cause, errors.HfHubHTTPError)
        raise DeepclustError(_refused(wanted, cause) if refused else _unreachable(wanted)) from error
    except errors.EntryNotFoundError as error:
        raise DeepclustError(
            f"{wanted.repository} has no file {wanted.file}{_files(wanted)}: name the file of the weights, "
            f"{hub_address(wanted.repository, 'FILE')}"
        ) from error
    except errors.OfflineModeIsEnabled as error:
        raise DeepclustError(_unreachable(wanted)) from error
    except errors.HFValidationError as error:
        raise DeepclustError(f"{name}: {error}") from error
    except errors.HfHubHTTPError as error:
        raise DeepclustError(_refused(wanted, error)) from error
    except (errors.FileMetadataError, OSError) as error:
        raise DeepclustError(f"cannot get {name}: {error}; try again, or name a copy (weights: a path)") from error


def _name(wanted: HubFile) -> str:
    return f"{wanted.repository}/{wanted.file}" + (f" at {wanted.revision}" if wanted.revision else "")


def _refused(wanted: HubFile, error: Any) -> str:
    from huggingface_hub import constants

    status = error.response.status_code
    if status in {401, 403}:
        page = f"{constants.ENDPOINT}/{wanted.repository}"
        advice = f"check the token (`hf auth whoami`, HF_TOKEN) and its access to {page}"
    else:
        advice = "try again later, or name a copy (weights: a path or an address)"
    return f"cannot get {_name(wanted)}: HTTP {status} from {constants.ENDPOINT}: {advice}"


def _unreachable(wanted: HubFile) -> str:
    from huggingface_hub import constants

    if constants.is_offline_mode():
        return (
            f"{_name(wanted)} is not in the cache {constants.HF_HUB_CACHE}, and HF_HUB_OFFLINE forbids to download it: "
            f"get it once with the network (`hf download {wanted.repository} {wanted.file}`), or name a copy "
            "(weights: a path)"
        )
    return (
        f"cannot reach {constants.ENDPOINT} for {_name(wanted)}, and it is not in the cache {constants.HF_HUB_CACHE}: "
        "check the network and HF_ENDPOINT, or name a copy (weights: a path)"
    )


def _files(wanted: HubFile) -> str:
    """Return the names of the files that a repository has instead, if it tells."""
    from huggingface_hub import list_repo_files

    with contextlib.suppress(Exception):
        found = [f for f in list_repo_files(wanted.repository, revision=wanted.revision) if not f.startswith(".")]
        return f" (it has {some_of(found, _SHOWN)})" if found else ""
    return ""
