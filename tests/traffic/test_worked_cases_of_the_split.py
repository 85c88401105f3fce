"""Every worked case of split-vectors.yaml through accept() and plan()."""

from __future__ import annotations

from typing import Any

from isthmus.model.plan import TOTAL_BASIS_POINTS


def test_a_worked_case_gives_its_shares(worked_case: Any) -> None:
    made = worked_case.plan()
    assert {str(group.locality): group.basis_points for group in made.shares} == worked_case.shares
    assert made.panic is worked_case.panic


def test_the_service_as_a_whole_has_the_shares_of_its_only_port(worked_case: Any) -> None:
    made = worked_case.plan(port=None)
    assert {str(group.locality): group.basis_points for group in made.shares} == worked_case.shares
    assert all(backend.port is None for group in made.shares for backend in group.backends)


def test_every_endpoint_of_a_worked_case_stands_in_one_place_of_the_plan(worked_case: Any) -> None:
    made = worked_case.plan()
    drawn = [
        (backend.cluster, backend.id)
        for group in (*made.shares, *made.standby, *made.unhealthy, *made.draining)
        for backend in group.backends
    ]
    drawn += [(entry.cluster, entry.endpoint) for entry in made.left_out]
    given = [(e.cluster, e.id) for members in worked_case.endpoints.values() for e in members]
    assert sorted(drawn) == sorted(given)


def test_all_worked_cases_are_there(worked_cases: list[Any]) -> None:
    assert len(worked_cases) == 20
    assert len({case.name for case in worked_cases}) == 20
    assert all(sum(case.shares.values()) == TOTAL_BASIS_POINTS for case in worked_cases)
