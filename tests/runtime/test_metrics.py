"""What the metrics count."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, generate_latest

from mlspec_runtime.heat.pace import Kind, Pace
from mlspec_runtime.metrics import Metrics
from mlspec_runtime.plan import parse_plan
from mlspec_runtime.protocol import Vitals
from mlspec_runtime.submission import Measures
from runtime.bundles import runtime_block


class Counted:
    """Metrics of their own, and their values."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self.metrics = Metrics(parse_plan({"runtime": runtime_block()}), self._registry)

    def value(self, name: str, **labels: str) -> float | None:
        return self._registry.get_sample_value(name, labels)

    def text(self) -> str:
        return generate_latest(self._registry).decode()


def test_a_request_is_observed_once() -> None:
    counted = Counted()
    counted.metrics.computed(Measures(0.5, 1.0, 30, 11, 20, total_s=2.0))
    assert counted.value("mlspec_time_per_output_token_seconds_sum") == 0.1
    assert counted.value("mlspec_time_per_output_token_seconds_count") == 1
    assert counted.value("mlspec_time_to_first_token_seconds_sum") == 1.0
    assert counted.value("mlspec_tokens_total", kind="prompt") == 30
    assert counted.value("mlspec_tokens_total", kind="completion") == 11
    assert counted.value("mlspec_tokens_total", kind="reused") == 20
    assert counted.value("mlspec_prompt_cache_hits_total") == 1


def test_one_token_has_no_time_after_it() -> None:
    counted = Counted()
    counted.metrics.computed(Measures(0.5, 1.0, 30, 1, total_s=1.0))
    counted.metrics.computed(Measures(0.5, None, 30, 0, total_s=1.0))
    counted.metrics.computed(Measures(0.5, 1.0, 30, 5))
    assert counted.value("mlspec_time_per_output_token_seconds_count") == 0


def test_steps_are_counted_by_their_rows() -> None:
    counted = Counted()
    counted.metrics.vitals(Vitals(paces=(Pace(Kind(1), 10, 1.0), Pace(Kind(8), 30, 6.0), Pace(Kind(8, 3), 10, 2.0))))
    assert counted.value("mlspec_decode_steps_total", rows="1") == 10
    assert counted.value("mlspec_decode_steps_total", rows="8") == 40
    assert counted.value("mlspec_decode_rows_total") == 330
    assert counted.value("mlspec_decode_seconds_total") == 9.0


def test_what_the_runner_counts_only_grows() -> None:
    counted = Counted()
    for count in (2, 5, 5, 9):
        counted.metrics.vitals(Vitals({"active": 7, "limit": 9}, (), {"adapter_loads": count}))
    assert counted.value("mlspec_runner_events_total", event="adapter_loads") == 9
    assert counted.value("mlspec_memory_bytes", kind="active") == 7
    assert counted.value("mlspec_memory_bytes", kind="limit") == 9


def test_the_response_cache() -> None:
    counted = Counted()
    # There from the first look, so that a rate knows where it began.
    assert counted.value("mlspec_response_cache_requests_total", result="hit") == 0
    counted.metrics.response_cache_hit()
    counted.metrics.response_cache_miss()
    counted.metrics.response_cache_miss()
    counted.metrics.response_cache_joined()
    counted.metrics.response_cache_size(3, 4096)
    found = {r: counted.value("mlspec_response_cache_requests_total", result=r) for r in ("hit", "miss", "joined")}
    assert found == {"hit": 1, "miss": 2, "joined": 1}
    assert counted.value("mlspec_response_cache_entries") == 3
    assert counted.value("mlspec_response_cache_bytes") == 4096


def test_a_process_and_its_faults() -> None:
    counted = Counted()
    counted.metrics.started()
    counted.metrics.ready(True)
    counted.metrics.fault("engine_dead")
    assert counted.value("mlspec_process_starts_total") == 1
    assert counted.value("mlspec_ready") == 1
    assert counted.value("mlspec_faults_total", code="engine_dead") == 1
