"""How long an accident was felt: what counts as reached, what as settled, and what is only noise."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from isthmus.demo.disturbance import CALM_MS, HOLD_SECONDS, WINDOW_SECONDS, moved_ms, settled_ms
from isthmus.demo.load import Request

BEGAN, ENDED = 100.0, 108.0


def request(at: float, ms: float = 2.0, cluster: str = "eu-1", status: int = 200) -> Request:
    return Request(at, ms, "eu-1", "front:80", status, cluster)


def steady(start: float, end: float, ms: float = 2.0) -> list[Request]:
    """A hundred requests a second."""
    return [request(start + n / 100, ms) for n in range(round((end - start) * 100))]


def test_the_last_answer_of_the_victim_is_when_traffic_has_moved() -> None:
    felt = [request(100.2, 50.0, "eu-2"), request(100.1, 400.0, "eu-2"), request(101.0)]
    assert moved_ms(felt, "eu-2", BEGAN) == 500.0


def test_an_accident_that_reached_nobody_moved_at_once() -> None:
    assert moved_ms(steady(BEGAN, ENDED), "eu-2", BEGAN) == 0.0
    assert moved_ms([], "eu-2", BEGAN) == 0.0


def test_slow_requests_count_as_long_as_they_hang_together() -> None:
    waiting = [request(BEGAN + n / 10, 600.0) for n in range(14)]
    assert moved_ms(waiting, "eu-2", BEGAN) == 1300.0


def test_a_slow_failover_counts_whole_however_long_it_takes() -> None:
    waiting = [request(BEGAN + n / 2, 300.0) for n in range(13)]
    assert moved_ms(waiting, "eu-2", BEGAN) == 6000.0


def test_a_stutter_seconds_later_is_noise() -> None:
    waiting = [request(100.1, 600.0), request(105.0, 700.0)]
    assert moved_ms(waiting, "eu-2", BEGAN) == 100.0
    assert moved_ms([request(105.0, 700.0)], "", BEGAN) == 0.0


def test_a_failure_counts_whenever_it_happens() -> None:
    assert moved_ms([request(105.0, 700.0, status=503)], "eu-2", BEGAN) == 5700.0


def test_latency_that_never_rises_has_settled_at_once() -> None:
    assert settled_ms(steady(95.0, ENDED), BEGAN, ENDED) == 0.0


def test_latency_settles_when_the_slow_ones_are_over() -> None:
    samples = steady(95.0, BEGAN) + steady(BEGAN, 101.5, 300.0) + steady(101.5, ENDED)
    found = settled_ms(samples, BEGAN, ENDED)
    assert found is not None
    assert 1450.0 <= found <= 1550.0


def test_a_lull_shorter_than_the_hold_is_not_settled() -> None:
    lull = HOLD_SECONDS + WINDOW_SECONDS - 0.2
    samples = steady(95.0, 100.5, 2.0) + steady(100.5, 101.0, 300.0) + steady(101.0, 101.0 + lull)
    samples += steady(101.0 + lull, 103.0, 300.0) + steady(103.0, ENDED)
    found = settled_ms(samples, BEGAN, ENDED)
    assert found is not None
    assert 2950.0 <= found <= 3050.0


def test_a_stutter_after_it_settled_does_not_count() -> None:
    samples = steady(95.0, 105.0) + steady(105.0, 105.5, 400.0) + steady(105.5, ENDED)
    assert settled_ms(samples, BEGAN, ENDED) == 0.0


def test_latency_that_stays_high_never_settles() -> None:
    assert settled_ms(steady(95.0, BEGAN) + steady(BEGAN, ENDED, 50.0), BEGAN, ENDED) is None
    failing = [request(BEGAN + n / 100, 1.0, status=503) for n in range(800)]
    assert settled_ms(steady(95.0, BEGAN) + failing, BEGAN, ENDED) is None


def test_what_was_slow_before_may_be_twice_as_slow_and_no_slower() -> None:
    assert settled_ms(steady(95.0, BEGAN, 30.0) + steady(BEGAN, ENDED, 59.0), BEGAN, ENDED) == 0.0
    assert settled_ms(steady(95.0, BEGAN, 30.0) + steady(BEGAN, ENDED, 61.0), BEGAN, ENDED) is None
    assert settled_ms(steady(95.0, BEGAN, 0.5) + steady(BEGAN, ENDED, CALM_MS), BEGAN, ENDED) == 0.0


def test_one_stutter_before_does_not_raise_the_level() -> None:
    stutter = steady(97.5, 97.7, 400.0)
    samples = steady(95.0, BEGAN, 30.0) + stutter + steady(BEGAN, ENDED, 61.0)
    assert settled_ms(samples, BEGAN, ENDED) is None


def test_without_a_level_before_nothing_can_be_back() -> None:
    assert settled_ms(steady(BEGAN, ENDED), BEGAN, ENDED) is None
    assert settled_ms([], BEGAN, ENDED) is None


@given(
    st.lists(
        st.builds(
            request,
            st.floats(96.0, 109.0),
            st.floats(0.0, 5000.0),
            st.sampled_from(["eu-1", "eu-2"]),
            st.sampled_from([200, 503, 0]),
        ),
        max_size=60,
    )
)
def test_both_measures_are_never_negative_and_settling_ends_within_the_accident(
    samples: list[Request],
) -> None:
    during = [r for r in samples if BEGAN <= r.at < ENDED]
    assert moved_ms(during, "eu-2", BEGAN) >= 0
    found = settled_ms(samples, BEGAN, ENDED)
    assert found is None or 0 <= found <= (ENDED - BEGAN - HOLD_SECONDS) * 1000
