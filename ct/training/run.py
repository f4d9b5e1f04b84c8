"""What a node knows of its run, read from the run's request and from what the nodes before it left."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ct.config import PipelineConfig
from ct.contracts import DeployedSpec, MadeWith, NodeResult, RunRequest, nodes_of_model
from ct.home import Home


@dataclass(frozen=True)
class Run:
    """A run's request and the spec it executes."""

    home: Home
    request: RunRequest
    spec: DeployedSpec
    spec_dir: Path

    @property
    def config(self) -> PipelineConfig:
        return PipelineConfig.model_validate(self.spec.config)

    @property
    def pipeline_folder(self) -> Path:
        """The pipeline's files as they were deployed."""
        return self.spec_dir / "code" / self.spec.pipeline

    def made_with(self, *, refit: bool) -> tuple[MadeWith, ...]:
        """What the nodes that made the model ran with, in their order: each once, where it was last."""
        found: list[MadeWith] = []
        for node_id in nodes_of_model(refit=refit):
            path = self.home.request_path(self.request.run_id).with_name(f"{node_id}.result.json")
            made = NodeResult.model_validate_json(path.read_text(encoding="utf-8")).made_with
            found = [*(known for known in found if known != made), *([made] if made else [])]
        return tuple(found)


def load_run(request_path: str) -> Run:
    """The run that `CT_HOME/runs/<run_id>/request.json` asks for."""
    path = Path(request_path)
    request = RunRequest.model_validate_json(path.read_text(encoding="utf-8"))
    home = Home(path.parents[2])
    spec_dir = home.deployed / request.pipeline / "specs" / request.spec_hash
    spec = DeployedSpec.model_validate_json((spec_dir / "spec.json").read_text(encoding="utf-8"))
    return Run(home, request, spec, spec_dir)
