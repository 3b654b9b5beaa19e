"""The deployment a run works on: its root, its data set, the contracts and policies it obeys."""

from pathlib import Path

import dagster as dg

from replenish.contracts.dataset import Dataset
from replenish.contracts.dataset_reader import read_dataset, with_assumptions
from replenish.contracts.model import Contract
from replenish.contracts.profile import ForecastProfile, read_profile
from replenish.contracts.reader import PLATFORM_FOLDER, read_contracts
from replenish.contracts.versions import live_contract_versions
from replenish.control.policy import ReplenishmentPolicy, read_policy
from replenish.stores.layout import RootLayout

POLICY_FILE = PLATFORM_FOLDER / "policies" / "replenishment.yaml"
ASSUMPTIONS_FILE = "assumptions.yaml"
"""Inputs that were assumed, not known (`ASSUME=`); beside the data set file of the root."""
OWNER_FILE = "environment"
"""Names the environment a root belongs to; written by the first process that opens it."""


def claim_root(root: Path, environment: str) -> None:
    """Refuse a root of another environment; a root nobody owns yet is claimed on first write.

    Catches a development shell pointed at the production root by a left-over REPLENISH_ROOT.

    Raises:
        DagsterInvariantViolationError: The root belongs to another environment.
    """
    mark = root / OWNER_FILE
    owner = mark.read_text(encoding="utf-8").strip() if mark.exists() else environment
    if owner != environment:
        raise dg.DagsterInvariantViolationError(
            f"this process runs as {environment!r}, {root} belongs to {owner!r}: set REPLENISH_ROOT or REPLENISH_ENV"
        )
    if root.exists() and not mark.exists():
        mark.write_text(environment + "\n", encoding="utf-8")


class DeploymentResource(dg.ConfigurableResource):
    """Root, data set, contracts, forecast profile and replenishment policy of one deployment."""

    root: str
    environment: str

    def setup_for_execution(self, context: dg.InitResourceContext) -> None:
        """Check once more at run time: the root may have been claimed since definitions were loaded."""
        claim_root(Path(self.root), self.environment)

    @property
    def layout(self) -> RootLayout:
        """Where this deployment keeps its files."""
        return RootLayout(Path(self.root))

    def dataset(self) -> Dataset:
        """The data set of the root; `make demo` or `replenish run` puts its file there."""
        path = self.layout.dataset_file
        if not path.exists():
            raise dg.Failure(f"{path} is missing: run `make demo`, or `replenish run --data <folder>`, first")
        dataset = read_dataset(path)
        assumed = self.layout.root / ASSUMPTIONS_FILE
        return with_assumptions(dataset, assumed) if assumed.is_file() else dataset

    def contracts(self) -> dict[str, Contract]:
        """The contracts, by stream."""
        return read_contracts()

    def versions(self) -> dict[str, dict[str, Contract]]:
        """The live versions of each contract, by stream and number."""
        return live_contract_versions()

    def profile(self) -> ForecastProfile:
        """The forecast profile the data set names."""
        return read_profile(self.dataset().profile)

    def policy(self) -> ReplenishmentPolicy:
        """The replenishment policy."""
        return read_policy(POLICY_FILE)
