"""Which deployment this process serves: the only place, besides the command line, that reads the environment."""

import os
from pathlib import Path

import dagster as dg

from replenish.control.alerts import read_routes
from resources.alert_box import AlertBoxResource
from resources.clock import ClockResource
from resources.deployment import DeploymentResource, claim_root
from resources.engine import ENGINES, EngineResource
from resources.gold import DBT_FOLDER, GoldResource, point_dbt_at, put_interpreter_on_path
from resources.iceberg import IcebergResource
from resources.journal import JournalResource
from resources.lake import LakeResource
from resources.outbox import OutboxResource
from resources.registry import RegistryResource

CHECKOUT = Path(__file__).resolve().parents[1]
ENVIRONMENTS = ("dev", "test", "prod")
DEFAULT_ROOT = CHECKOUT / "var" / "demo"


def environment_name() -> str:
    """`dev`, `test` or `prod`, from REPLENISH_ENV; `dev` when unset."""
    return os.environ.get("REPLENISH_ENV", "dev")


def root_folder() -> Path:
    """Root of the deployment, from REPLENISH_ROOT; `var/demo` of the checkout when unset."""
    return Path(os.environ.get("REPLENISH_ROOT", DEFAULT_ROOT)).expanduser().absolute()


def webhook_urls() -> dict[str, str]:
    """Address of every webhook that the alert routes name and the environment holds."""
    names = [route.url_variable for route in read_routes() if route.url_variable]
    return {name: os.environ[name] for name in names if name in os.environ}


def feature_engine() -> EngineResource:
    """The engine that REPLENISH_ENGINE names, `embedded` when unset; a `cluster` lies behind REPLENISH_SPARK_REMOTE.

    Raises:
        DagsterInvariantViolationError: No such engine, or the cluster's address is not set.
    """
    engine = os.environ.get("REPLENISH_ENGINE", "embedded")
    if engine not in ENGINES:
        raise dg.DagsterInvariantViolationError(f"REPLENISH_ENGINE is {engine!r}; known: {', '.join(ENGINES)}")
    if engine == "embedded":
        return EngineResource()
    if not os.environ.get("REPLENISH_SPARK_REMOTE"):
        raise dg.DagsterInvariantViolationError("REPLENISH_ENGINE is cluster: set REPLENISH_SPARK_REMOTE")
    parts = [part.partition("=") for part in os.environ.get("REPLENISH_SPARK_SETTINGS", "").split(",") if part]
    settings = {name.strip(): value.strip() for name, _, value in parts}
    return EngineResource(engine=engine, address=dg.EnvVar("REPLENISH_SPARK_REMOTE"), settings=settings)


def resources_for(environment: str, root: Path | None = None) -> dict[str, object]:
    """The resources of one environment, by key; `root` overrides REPLENISH_ROOT, which is all a test needs.

    Raises:
        DagsterInvariantViolationError: `environment` is unknown, the root belongs to another environment, or there is
            no such engine.
    """
    if environment not in ENVIRONMENTS:
        raise dg.DagsterInvariantViolationError(f"REPLENISH_ENV is {environment!r}; known: {', '.join(ENVIRONMENTS)}")
    put_interpreter_on_path()
    point_dbt_at(root or root_folder())
    folder = str(root or root_folder())
    claim_root(Path(folder), environment)
    return {
        "deployment": DeploymentResource(root=folder, environment=environment),
        "lake": LakeResource(root=folder),
        "journal": JournalResource(root=folder),
        "registry": RegistryResource(root=folder),
        "outbox": OutboxResource(root=folder),
        "iceberg": IcebergResource(root=folder),
        "alert_box": AlertBoxResource(root=folder, urls=webhook_urls()),
        "clock": ClockResource(),
        "engine": feature_engine(),
        "dbt": GoldResource(root=folder, project_dir=str(DBT_FOLDER), profiles_dir=str(DBT_FOLDER)),
    }
