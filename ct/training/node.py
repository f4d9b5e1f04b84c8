"""One node of a deployed pipeline's IR, bound to one run and handed to TFX's launcher."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from google.protobuf import json_format
from tfx.orchestration.local import runner_utils
from tfx.orchestration.portable import launcher
from tfx.orchestration.portable.runtime_parameter_utils import substitute_runtime_parameter
from tfx.proto.orchestration import pipeline_pb2

from ct.errors import ConfigError, NodeFailedError
from ct.training.metadata import forget_earlier_attempt, has_succeeded, open_store
from ct.training.parameters import bindings

if TYPE_CHECKING:
    from ct.contracts import NodeJob
    from ct.training.run import Run

_log = logging.getLogger(__name__)


def launch_node(run: Run, job: NodeJob) -> None:
    """Run driver, executor and publisher of the job's node. An earlier attempt in the same run is forgotten first.

    Raises:
        ConfigError: the deployed pipeline has no such node.
        NodeFailedError: an upstream node has no output in this run.
        Exception: what the node's executor raised.
    """
    root = run.home.artifacts(run.request.pipeline)
    intermediate = json_format.Parse((run.spec_dir / "ir.json").read_text(encoding="utf-8"), pipeline_pb2.Pipeline())
    substitute_runtime_parameter(intermediate, bindings(run, job.request_path))
    node = _find(intermediate, job, run)
    deployment = runner_utils.extract_local_deployment_config(intermediate)
    store = open_store(root / "metadata.db")
    if forget_earlier_attempt(store, node, root / job.node_id):
        _log.info("Forgot an earlier attempt at %s in run %s", job.node_id, run.request.run_id)
    launcher.Launcher(
        pipeline_node=node,
        mlmd_connection=store,
        pipeline_info=intermediate.pipeline_info,
        pipeline_runtime_spec=intermediate.runtime_spec,
        executor_spec=runner_utils.extract_executor_spec(deployment, job.node_id),
        custom_driver_spec=runner_utils.extract_custom_driver_spec(deployment, job.node_id),
    ).launch()
    if not has_succeeded(store, node):
        raise NodeFailedError(
            f"{job.node_id} of run {run.request.run_id} did not run: an upstream node has no output in this run. "
            f"Clear the first of its upstream tasks ({', '.join(node.upstream_nodes)}) that has not succeeded.",
            run_id=run.request.run_id,
            node_id=job.node_id,
        )


def _find(intermediate: pipeline_pb2.Pipeline, job: NodeJob, run: Run) -> pipeline_pb2.PipelineNode:
    nodes = {node.pipeline_node.node_info.id: node.pipeline_node for node in intermediate.nodes}
    if job.node_id not in nodes:
        raise ConfigError(
            f'Pipeline "{run.request.pipeline}", spec {run.request.spec_hash}, has no node {job.node_id}; '
            f"it has {', '.join(nodes)}. Nothing was run.",
            node_id=job.node_id,
        )
    return nodes[job.node_id]
