"""What happens at each door in a trial: what lies there before, what is harmed, and how the run is completed."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from tests.faults.child_system import Arm, ChildSystem, killed_at, stopping
from tests.faults.client import offer_over_http
from tests.faults.sources import brokers, change_table, doors_file, drop_database, facts_of_table, new_database, produce
from tests.faults.world import Key, World, make_world


class Scenario(NamedTuple):
    """One door. `harm` runs armed (or, for the twin, unarmed, counting passes) and gives the
    exit code of the process under test; `complete` is always unarmed."""

    door: str
    prepare: Callable[[ChildSystem], object]
    harm: Callable[[ChildSystem, Arm | None, Path | None], int]
    complete: Callable[[ChildSystem], object]
    has_sound_lake: bool = True
    """Whether tables must be readable right after the fault: not where the scenario damages them itself."""
    truth: Callable[[ChildSystem, World], dict[Key, int]] = lambda system, world: world.truth()
    """Fact to units that silver must say in the end."""
    has_twin: bool = True
    """Whether silver equals that of an unharmed run to the last byte: not where it holds times of the run itself."""


def in_process(
    door: str,
    *,
    prepare: tuple[str, ...],
    harm: tuple[str, ...],
    complete: tuple[str, ...],
    has_sound_lake: bool = True,
) -> Scenario:
    """A scenario whose client lives in the process that is harmed: every step is a call of the product."""

    def run_prepare(system: ChildSystem) -> None:
        if prepare:
            system.run(prepare)

    def run_harm(system: ChildSystem, arm: Arm | None, passes: Path | None) -> int:
        return system.run(harm, arm, passes=passes)

    def run_complete(system: ChildSystem) -> None:
        system.run(complete)

    return Scenario(door, run_prepare, run_harm, run_complete, has_sound_lake)


def _over_http(system: ChildSystem, waves: range, arm: Arm | None = None, passes: Path | None = None) -> int:
    """`replenish serve` in a process of its own, clients in this one; its exit code."""
    process = system.start(["serve"], arm, passes=passes)
    with stopping(process), killed_at(system, process, arm):
        address = system.address_of(process)
        if address is not None:
            offer_over_http(make_world(system.seed, **system.world), system.oracle, waves, address)
        # A killed server is gone by now, one with an error may have stopped itself; another is told to.
        process.terminate()
        code = process.wait(60)
    if arm is None and code != 0:
        raise AssertionError(f"an unharmed server ended with {code}: {system.last_words()}")
    return code


def _complete_http(system: ChildSystem) -> None:
    _over_http(system, range(3))
    system.run(["settle", "lake"])


HTTP = Scenario(
    "http",
    prepare=lambda system: None,
    harm=lambda system, arm, passes: _over_http(system, range(2), arm, passes),
    complete=_complete_http,
)


def _harm_postgres(system: ChildSystem, arm: Arm | None, passes: Path | None) -> int:
    """A source with rows, then with changes, and `replenish follow postgres` on it: a snapshot, then its stream."""
    system.extra["TRIAL_DSN"] = new_database()
    (system.root / "doors.yaml").write_text(doors_file("TRIAL_DSN", "", ""))
    change_table(system.extra["TRIAL_DSN"], make_world(system.seed, **system.world).waves[0])
    return system.run(("postgres", "sql:1", "postgres"), arm, passes=passes)


def _complete_postgres(system: ChildSystem) -> None:
    system.run(("postgres", "sql:1-2", "postgres", "settle", "lake"))


def _facts_at_source(system: ChildSystem, world: World) -> dict[Key, int]:
    dsn = system.extra["TRIAL_DSN"]
    truth = facts_of_table(dsn, world)
    drop_database(dsn)
    return truth


def _harm_kafka(system: ChildSystem, arm: Arm | None, passes: Path | None) -> int:
    """Two waves in a topic of four partitions, with a poison message, and `replenish follow kafka` on it."""
    system.extra["TRIAL_TOPIC"] = topic = f"sales-{uuid.uuid4().hex[:12]}"
    (system.root / "doors.yaml").write_text(doors_file("", topic, brokers()))
    for wave in make_world(system.seed, **system.world).waves[:2]:
        produce(topic, wave)
    return system.run(("kafka",), arm, passes=passes)


def _complete_kafka(system: ChildSystem) -> None:
    produce(system.extra["TRIAL_TOPIC"], make_world(system.seed, **system.world).waves[2])
    system.run(("kafka", "settle", "lake"))


def _complete_ship(system: ChildSystem) -> None:
    """The standby takes over whatever happened, and clients go on there with what was not answered."""
    system.run(("ship", "promote"))
    system.site = "root/elsewhere"
    system.run(("files", "events", "settle", "lake"))


def _harm_redrive(system: ChildSystem, arm: Arm | None, passes: Path | None) -> int:
    """The contract is mended, and what was refused is offered again."""
    system.extra["TRIAL_MENDED"] = "yes"
    return system.run(("redrive", "settle"), arm, passes=passes)


REDRIVE = Scenario(
    "redrive",
    prepare=lambda system: system.run(("events", "settle", "lake")),
    harm=_harm_redrive,
    complete=lambda system: system.run(("redrive", "events", "settle", "lake")),
    truth=lambda system, world: world.truth(is_mended=True),
)
CDC = Scenario(
    "cdc",
    prepare=lambda system: None,
    harm=_harm_postgres,
    complete=_complete_postgres,
    truth=_facts_at_source,
    has_twin=False,
)
KAFKA = Scenario("kafka", prepare=lambda system: None, harm=_harm_kafka, complete=_complete_kafka)
SHIP = Scenario(
    "ship",
    prepare=lambda system: system.run(("files:0", "events:0", "ship")),
    harm=lambda system, arm, passes: system.run(
        ("files:1", "ship", "events:1", "settle", "ship", "promote"), arm, passes=passes
    ),
    complete=_complete_ship,
)

SCENARIOS: dict[str, Scenario] = {
    scenario.door: scenario
    for scenario in (
        HTTP,
        CDC,
        KAFKA,
        SHIP,
        REDRIVE,
        in_process("events", prepare=(), harm=("events",), complete=("events", "settle", "lake")),
        in_process(
            "settle",
            prepare=("events:0-1",),
            harm=("settle", "lake", "events:2", "settle", "lake"),
            complete=("events", "settle", "lake"),
        ),
        in_process(
            "seal",
            prepare=("events:0-1", "settle"),
            harm=("seal", "events:2", "settle", "seal"),
            complete=("seal", "events", "settle", "lake", "seal"),
        ),
        in_process(
            "maintain",
            prepare=("files:0", "lake", "files:1", "lake", "files:2", "lake"),
            harm=("maintain",),
            complete=("maintain", "files", "lake"),
        ),
        in_process(
            "doctor",
            prepare=("files:0-1", "lake", "files:2", "lake", "damage"),
            harm=("doctor", "rebuild"),
            complete=("doctor", "rebuild", "files", "lake", "doctor"),
            has_sound_lake=False,
        ),
        # A first run and a later one, up to gold and features: for disks that fill up on the way.
        in_process(
            "run", prepare=(), harm=("files", "events", "run", "seal"), complete=("files", "events", "run", "seal")
        ),
        in_process(
            "rerun",
            prepare=("files:0", "events:0", "run"),
            harm=("files:1-2", "events:1-2", "run", "seal"),
            complete=("files", "events", "run", "seal"),
        ),
        in_process("file", prepare=("files:0",), harm=("files:1-2",), complete=("files", "lake")),
        in_process(
            "lake", prepare=("files:0-1",), harm=("lake", "files:2", "lake"), complete=("lake", "files", "lake")
        ),
    )
}
