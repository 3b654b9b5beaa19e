"""dbt: builds gold in DuckDB, reading silver and writing gold as Delta tables."""

import os
import sys
from pathlib import Path
from typing import Any

from dagster_dbt import DbtCliInvocation, DbtCliResource

from replenish.contracts.dbt_render import LAKE_VARIABLE
from replenish.stores.layout import RootLayout

RESULTS_FILE = "run_results.json"
DBT_FOLDER = Path(__file__).resolve().parents[1] / "dbt"


def put_interpreter_on_path() -> None:
    """Make the commands installed beside this interpreter (`dbt`) callable, also where no environment was activated."""
    folder = str(Path(sys.executable).parent)
    parts = os.environ.get("PATH", "").split(os.pathsep)
    if folder not in parts:
        os.environ["PATH"] = os.pathsep.join([folder, *parts])


def point_dbt_at(root: Path) -> None:
    """Let dbt commands of this process work on the lake of a root; dbt takes the folder from its environment.

    Done before the project is parsed as well: a parse under another folder cannot be used again by the commands.
    """
    os.environ[LAKE_VARIABLE] = str(RootLayout(root).lake)


class GoldResource(DbtCliResource):
    """The dbt command line on the lake of one deployment."""

    root: str

    def cli(self, args: Any, **options: Any) -> DbtCliInvocation:
        """Start a dbt command that reads and writes this deployment's lake; arguments as for DbtCliResource.

        Its files go to `<root>/dbt/<command>`, over those of the command's last run: dagster-dbt would keep a folder
        per run for good, and dbt would parse the project anew in each.
        """
        point_dbt_at(Path(self.root))
        target = Path(self.root).absolute() / "dbt" / args[0]
        # Results of the last run must not be taken for those of a run that ended before it had any.
        (target / RESULTS_FILE).unlink(missing_ok=True)
        return super().cli(args, **{"target_path": target, **options})
