"""Answers that are kept for requests that come again, and computed once for those that come at the same time."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from mlspec_runtime.plan import RuntimePlan
from mlspec_runtime.protocol import Runner
from mlspec_runtime.response_cache.runner import CacheMetrics, CachingRunner
from mlspec_runtime.response_cache.stores import MemoryStore, Store


def caching(
    plan: RuntimePlan, bundle: Path, runner: Runner, metrics: CacheMetrics, environment: Mapping[str, str]
) -> Runner:
    """The runner behind a response cache as the plan wants it; the runner itself, if it wants none. With a file store
    the environment tells where.
    """
    settings = plan.response_cache
    if settings.store == "off":
        return runner
    if settings.store == "memory":
        return CachingRunner(runner, metrics, lambda models: _in_memory(plan, metrics))
    return CachingRunner(runner, metrics, partial(_in_file, plan, bundle, metrics, environment))


def _in_memory(plan: RuntimePlan, metrics: CacheMetrics) -> Store:
    settings = plan.response_cache
    return MemoryStore(settings.entries, settings.max_bytes, metrics.response_cache_size)


def _in_file(
    plan: RuntimePlan,
    bundle: Path,
    metrics: CacheMetrics,
    environment: Mapping[str, str],
    models: Mapping[str, Path],
) -> Store:
    # SQLite isn't there in every Python, and most services keep no file.
    from mlspec_runtime.response_cache.file_store import FileStore
    from mlspec_runtime.response_cache.places import folder_of, namespace

    settings, own = plan.response_cache, namespace(bundle, models)
    folder = folder_of(plan.service, environment)
    return FileStore(folder, own, settings.entries, settings.max_bytes, metrics.response_cache_size)
