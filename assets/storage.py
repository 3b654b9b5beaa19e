"""Watching the stores: the doctor's hourly visit, and a sensor that raises the alarms of disk, dead letters and lag."""

from contextlib import suppress
from typing import Any

import dagster as dg

from assets.schedules import WRITES_LAKE, upkeep_schedule
from replenish.cli.deployment import open_deployment
from replenish.cli.doctor import examine_deployment
from replenish.cli.storage_facts import storage_alarms, write_letter_gauge
from replenish.control.alarms import read_alarm_policy
from replenish.errors import ReplenishError
from resources.alert_box import AlertBoxResource
from resources.clock import ClockResource
from resources.deployment import DeploymentResource

LOOK_EVERY_SECONDS = 60
HOURLY = "17 * * * *"
"""Not on the hour, when everything else begins."""


def build_storage_job() -> dg.JobDefinition:
    """`storage_check`: one full visit of the doctor, which mends what it can; findings are in the run's log."""

    @dg.op(description="Check journal, archive, accepted rows and tables; mend from the log; never delete.")
    def visit_stores(context: dg.OpExecutionContext, deployment: DeploymentResource) -> None:
        if not deployment.layout.dataset_file.exists():
            context.log.info("no data set under this root yet")
            return
        opened = open_deployment(deployment.layout.root)
        report = examine_deployment(opened, depth="full", is_repairing=True)
        for treatment in report.treatments:
            found = treatment.finding
            said = (found.subject, found.detail, found.meaning, treatment.done, treatment.advice)
            context.log.warning("; ".join(filter(None, said)))
        context.log.info(f"{len(report.treatments)} findings, {report.needs_person} need a person")

    # One after the other with the runs that write tables: a visit may set a table aside.
    @dg.job(name="storage_check", tags=WRITES_LAKE, description="The doctor's visit: check stores, mend from the log.")
    def storage_check() -> None:
        visit_stores()

    return storage_check


def build_storage_schedule(job: dg.JobDefinition) -> dg.ScheduleDefinition:
    """The doctor's visit, every hour."""
    return upkeep_schedule("doctor_hourly", job, HOURLY, "Checks the stores every hour.")


def build_storage_alarms() -> Any:
    """The sensor `storage_alarms`: one alert per incident, severity and day, with owner and runbook."""

    @dg.sensor(
        name="storage_alarms",
        minimum_interval_seconds=LOOK_EVERY_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Dead letters growing, slot lag, Kafka lag, disk full, damage found, standby behind.",
    )
    def storage_alarms_sensor(
        deployment: DeploymentResource, alert_box: AlertBoxResource, clock: ClockResource
    ) -> dg.SkipReason:
        if not deployment.layout.dataset_file.exists():
            return dg.SkipReason("no data set under this root yet")
        opened = open_deployment(deployment.layout.root)
        alarms = storage_alarms(opened, read_alarm_policy(), clock.now())
        sent = sum(alert_box.send(alarm) for alarm in alarms)
        with suppress(OSError, ReplenishError):
            # A full disk or a damaged journal has its alarm by now.
            write_letter_gauge(opened)
        return dg.SkipReason(f"{len(alarms)} alarms, {sent} new")

    return storage_alarms_sensor
