"""`python -m ct.training.compile`: a deployed pipeline folder to TFX IR. Run by ct.deploy, in the training plane.

Writes into the spec folder::

    ir.json      the pipeline IR, as protobuf JSON
    nodes.json   a list of contracts.NodeSpec
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import traceback
from pathlib import Path

from ct.config import load_pipeline_config
from ct.errors import ConfigError, CTError
from ct.home import write_atomically

ENTRY_POINTS = (("features", "preprocessing_fn"), ("model", "run_fn"))


def compile_pipeline(pipeline_folder: Path, out: Path) -> None:
    """Compile one pipeline and write `ir.json` and `nodes.json` into `out`.

    Args:
        pipeline_folder: the pipeline's files, in a folder of the pipeline's name.
        out: the spec folder.

    Raises:
        ConfigError: pipeline.yaml is wrong, or the pipeline's code does not import or lacks an entry point.
    """
    config = load_pipeline_config(pipeline_folder)
    check_code(pipeline_folder, config.name)

    from google.protobuf import json_format  # noqa: PLC0415  a wrong pipeline.yaml is told before TFX is imported
    from tfx.dsl.compiler.compiler import Compiler  # noqa: PLC0415

    from ct.training.pipeline import build  # noqa: PLC0415

    built = build(config)
    intermediate = Compiler().compile(built.pipeline)
    write_atomically(out / "nodes.json", json.dumps([node.model_dump(mode="json") for node in built.nodes]))
    write_atomically(out / "ir.json", json_format.MessageToJson(intermediate))


def check_code(pipeline_folder: Path, name: str) -> None:
    """Import the pipeline's modules as nodes will, and find their entry points.

    Raises:
        ConfigError: with the line of the pipeline's own code that failed.
    """
    sys.path.insert(0, str(pipeline_folder.parent))
    for module_name, function in ENTRY_POINTS:
        try:
            module = importlib.import_module(f"{name}.{module_name}")
        except Exception as error:  # a pipeline's code may raise anything
            frames = [frame for frame in traceback.extract_tb(error.__traceback__) if str(pipeline_folder) in frame.filename]
            where = f"{Path(frames[-1].filename).name}, line {frames[-1].lineno}" if frames else f"{module_name}.py"
            raise ConfigError(
                f"{where}: {type(error).__name__}: {error}. Nothing was deployed.", module=module_name
            ) from error
        if not callable(getattr(module, function, None)):
            raise ConfigError(f"{module_name}.py has no function `{function}`. Nothing was deployed.", module=module_name)


def main() -> int:
    """Compile as the command line says; 2 and one line on standard error when the pipeline is wrong."""
    parser = argparse.ArgumentParser(prog="python -m ct.training.compile", description=__doc__)
    parser.add_argument("--pipeline-dir", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    try:
        compile_pipeline(arguments.pipeline_dir, arguments.out)
    except CTError as error:
        print(error, file=sys.stderr)  # noqa: T201  the message is this process's answer
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
