"""The registry: MLflow's runs, versions and the alias `champion`."""

from ct.registry.mlflow_registry import CHAMPION_ALIAS, MlflowRegistry, RegisteredVersion

__all__ = ["CHAMPION_ALIAS", "MlflowRegistry", "RegisteredVersion"]
