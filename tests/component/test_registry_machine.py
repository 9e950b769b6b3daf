"""Pushes, pulls and deletions, well and badly made, in any order: what must come of them does.

`make torture` makes more runs than `make test`.
"""

from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from support.malformed import victim
from support.registry_machine import Machine
from support.size import sized

EXAMPLES = sized(25, 400)


def interrupted(machine: Machine) -> None:
    """Takes the steps that a small number of random examples may leave out."""
    machine.begin(0, "")
    machine.append(0, b"bc", "gap", streamed=False)
    for then in ("second", "cancel"):
        machine.break_off(0, then, streamed=False)
    machine.teardown()


def test_the_registry_does_what_a_model_says(tmp_path):
    with victim(tmp_path) as registry:

        class Here(Machine):
            pass

        Here.registry = registry
        interrupted(Here())
        run_state_machine_as_test(
            Here,
            settings=settings(max_examples=EXAMPLES, stateful_step_count=30, print_blob=True),
        )
        assert {200, 201, 202, 204, 400, 404, 409, 416} <= Here.seen.keys()
