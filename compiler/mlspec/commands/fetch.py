"""`mlspec fetch`: bring a model of Hugging Face's hub into its cache, at the very commit that the spec names.

The download is huggingface_hub's own: it checks sizes, keeps what is whole, and takes a token from HF_TOKEN.
Only data is fetched: never code, never a pickle.
"""

from __future__ import annotations

import errno
import sys
import warnings
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path

from mlspec import __version__
from mlspec.commands import spec_files, surroundings, tell
from mlspec.diagnostics import Report
from mlspec.errors import CommandError
from mlspec.hub import PATTERNS, refused, snapshot_folder
from mlspec.model.spec import Source

_AGAIN = "run the same command again: files that are whole are kept"
_FULL = (errno.ENOSPC, errno.EDQUOT)
_UNWRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.EFBIG)


def run(options: Namespace) -> int:
    from mlspec.exit_codes import OK
    from mlspec.pipeline import Pipeline

    report, pipeline = Report(), Pipeline(surroundings(options))
    found = [pipeline.check(path, report) for path in spec_files(options.specs)]
    if report.failed:
        return tell(report, Namespace(output_format="text"), to_stdout=False)
    for one in filter(None, found):
        for ref in one.runner.models(one.spec.model):
            if ref.source.hf is not None:
                print(fetch(ref.source, one.workspace.hub_cache, progress=sys.stderr.isatty()), flush=True)
    return OK


def fetch(source: Source, cache: Path, allow: tuple[str, ...] = PATTERNS, *, progress: bool = False) -> Path:
    """Fetch the files that match `allow`; what is there already isn't fetched again. Returns their folder.

    Args:
        source: one with `hf` and `revision`.
        cache: Hugging Face's cache; it is made if there is none.
        progress: whether to show bars on stderr (they are for a terminal).

    Raises:
        CommandError: no network, no access, no such repository or commit, no room, nothing to fetch.
    """
    if source.hf is None or source.revision is None:
        raise ValueError(f"not a source on the hub: {source.key()}")
    if folder := snapshot_folder(cache, source.hf, source.revision, allow):
        return folder
    _download(source.hf, source.revision, cache, allow, progress)
    if folder := snapshot_folder(cache, source.hf, source.revision, allow):
        return folder
    raise CommandError(
        "hub-nothing-to-fetch",
        f"'{source.hf}' at {source.revision[:12]} has no file that a runner reads",
        f"a model needs files like {', '.join(allow[:2])}: look for a repository in MLX format",
    )


def _download(repository: str, commit: str, cache: Path, allow: tuple[str, ...], progress: bool) -> None:
    try:
        from huggingface_hub import constants, snapshot_download
        from huggingface_hub.utils.tqdm import disable_progress_bars
    except ImportError as problem:
        help = "pip install 'mlspec-compiler[hub]'"
        raise CommandError("hub-library-missing", f"fetching needs {problem.name}", help) from problem
    if not progress and constants.HF_HUB_DISABLE_PROGRESS_BARS is None:
        disable_progress_bars()
    try:
        with warnings.catch_warnings():
            # What it warns of as a Python warning comes true as an error, and is told then.
            warnings.filterwarnings("ignore", "Not enough free disk space")
            snapshot_download(
                repository,
                revision=commit,
                cache_dir=cache,
                allow_patterns=list(allow),
                ignore_patterns=list(refused(allow)),
                library_name="mlspec",
                library_version=__version__,
            )
    except Exception as problem:  # its own, its HTTP library's, hf_xet's: no common base; unknown ones go on
        if known := _explained(problem, repository, commit, cache):
            raise known from problem
        raise


def _explained(problem: Exception, repository: str, commit: str, cache: Path) -> CommandError | None:
    """The trouble in a user's words; None if it's none that we know."""
    causes = tuple(_causes(problem))
    said = [_hub_said(cause, repository, commit) for cause in causes]
    said += [_disk_said(cause, cache) for cause in causes]
    said += [_network_said(cause) for cause in causes]
    return next((known for known in said if known is not None), None)


def _causes(problem: BaseException) -> Iterator[BaseException]:
    """The cause first: huggingface_hub wraps what happened in 'not found in the cache'."""
    if problem.__cause__ is not None:
        yield from _causes(problem.__cause__)
    yield problem


def _hub_said(problem: BaseException, repository: str, commit: str) -> CommandError | None:
    from huggingface_hub import errors

    if isinstance(problem, errors.OfflineModeIsEnabled):
        message = f"'{repository}' isn't whole in the cache, and HF_HUB_OFFLINE forbids fetching it"
        return CommandError("hub-offline", message, "unset HF_HUB_OFFLINE")
    if isinstance(problem, errors.GatedRepoError):
        return _no_access(repository, "is gated")
    if isinstance(problem, errors.RevisionNotFoundError):
        help = "take the full commit hash from the repository's page"
        return CommandError("hub-not-found", f"'{repository}' has no commit {commit}", help)
    if isinstance(problem, errors.RepositoryNotFoundError):
        help = "look at its spelling; for a private one set HF_TOKEN"
        return CommandError("hub-not-found", f"the hub shows no model '{repository}'", help)
    if isinstance(problem, errors.HfHubHTTPError):
        return _answered(problem.response.status_code, repository)
    return None


def _answered(status: int, repository: str) -> CommandError:
    if status in (401, 403):
        return _no_access(repository, f"was refused (HTTP {status})")
    return CommandError("hub-unreachable", f"the hub answered HTTP {status} for '{repository}'", _AGAIN)


def _no_access(repository: str, problem: str) -> CommandError:
    help = "ask for access on the repository's page, then set HF_TOKEN to a token that may read it"
    return CommandError("hub-no-access", f"'{repository}' {problem}", help)


def _disk_said(problem: BaseException, cache: Path) -> CommandError | None:
    if not isinstance(problem, OSError) or problem.errno is None:
        return None
    if problem.errno in _FULL:
        help = f"make room, or set HF_HUB_CACHE to a folder on another disk; then {_AGAIN}"
        return CommandError("disk-full", f"no room is left in {cache}", help)
    if problem.errno in _UNWRITABLE:
        reason = (problem.strerror or "can't be written").lower()
        return CommandError("hub-cache", f"{cache}: {reason}", "set HF_HUB_CACHE to a folder that can be written")
    return None


def _network_said(problem: BaseException) -> CommandError | None:
    """A connection that failed or broke off. The library speaks HTTP by httpx, from version 2 by httpx2."""
    of_http = type(problem).__module__.partition(".")[0] in ("httpx", "httpx2")
    if of_http or isinstance(problem, ConnectionError | TimeoutError):
        reason = str(problem) or type(problem).__name__
        return CommandError("hub-unreachable", f"no connection to the hub: {reason}", _AGAIN)
    if isinstance(problem, OSError) and "Consistency check failed" in str(problem):
        return CommandError("hub-unreachable", "the connection broke off within a file", _AGAIN)
    return None
