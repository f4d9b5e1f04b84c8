"""`python -m ct.training.compile`: a pipeline folder to TFX IR. Run by ct.deploy, in the training plane.

Writes into the spec folder::

    ir.json      the pipeline IR, as protobuf JSON; it names no path (ct.training.parameters)
    nodes.json   a list of contracts.NodeSpec
    error.json   instead of both: {"message": ...}, when the pipeline is wrong
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import sys
import traceback
from pathlib import Path

from ct.config import load_pipeline_config
from ct.errors import ConfigError, CTError
from ct.home import write_atomically

ENTRY_POINTS = (("features", "preprocessing_fn"), ("model", "run_fn"))


def compile_pipeline(pipeline_folder: Path, out: Path) -> None:
    """Compile one pipeline and write `ir.json` and `nodes.json` into `out`. What can be wrong is looked at first.

    Args:
        pipeline_folder: the pipeline's files, in a folder of the pipeline's name.
        out: the spec folder.

    Raises:
        ConfigError: pipeline.yaml or schema.pbtxt is wrong, a metric cannot be measured, or the code does not import or lacks
            an entry point.
    """
    from ct.training.schema import check_columns, read_schema  # noqa: PLC0415  --help must not wait for protobuf

    config, schema = load_pipeline_config(pipeline_folder), read_schema(pipeline_folder / "schema.pbtxt")
    check_columns(config, schema)
    check_name(config.name)

    from ct.training import preload  # noqa: F401, PLC0415  a wrong pipeline.yaml is told before TensorFlow is imported

    check_code(pipeline_folder)

    from google.protobuf import json_format  # noqa: PLC0415
    from tfx.dsl.compiler.compiler import Compiler  # noqa: PLC0415

    from ct.training.metric_trial import check_metrics  # noqa: PLC0415
    from ct.training.pipeline import build  # noqa: PLC0415

    check_metrics(config, schema)
    built = build(config)
    intermediate = Compiler().compile(built.pipeline)
    write_atomically(out / "nodes.json", json.dumps([node.model_dump(mode="json") for node in built.nodes]))
    write_atomically(out / "ir.json", json_format.MessageToJson(intermediate))


def check_name(name: str) -> None:
    """The pipeline's code becomes a package of the pipeline's name, which must hide no other.

    Raises:
        ConfigError: it would.
    """
    if importlib.util.find_spec(name) is not None:
        raise ConfigError(
            f"name: `{name}` is the name of an installed Python module, which the pipeline's code would hide. "
            "Choose another. Nothing was deployed.",
            name=name,
        )


def check_code(pipeline_folder: Path) -> None:
    """Import the pipeline's modules as nodes will, and find their entry points.

    Raises:
        ConfigError: with the line of the pipeline's own code that failed.
    """
    sys.path.insert(0, str(pipeline_folder.parent))
    for module_name, function in ENTRY_POINTS:
        try:
            module = importlib.import_module(f"{pipeline_folder.name}.{module_name}")
        except Exception as error:  # a pipeline's code may raise anything
            where = _line_of(error, pipeline_folder) or f"{module_name}.py"
            reason = error.msg if isinstance(error, SyntaxError) else str(error)
            raise ConfigError(
                f"{where}: {type(error).__name__}: {reason}. Nothing was deployed.", module=module_name
            ) from error
        if not callable(getattr(module, function, None)):
            raise ConfigError(
                f"{module_name}.py has no function `{function}`. Nothing was deployed.", module=module_name
            )


def _line_of(error: Exception, folder: Path) -> str | None:
    """The innermost line of the pipeline's own code."""
    places = [(frame.filename, frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
    if isinstance(error, SyntaxError) and error.filename:
        places.append((error.filename, error.lineno))
    own = [(Path(name), line) for name, line in places if Path(name).is_relative_to(folder)]
    return f"{own[-1][0].relative_to(folder)}, line {own[-1][1]}" if own else None


def main() -> int:
    """Compile as the command line says; 2 and error.json when the pipeline is wrong."""
    parser = argparse.ArgumentParser(prog="python -m ct.training.compile", description=__doc__)
    parser.add_argument("--pipeline-dir", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    try:
        compile_pipeline(arguments.pipeline_dir, arguments.out)
    except CTError as error:
        traceback.print_exc()
        write_atomically(arguments.out / "error.json", json.dumps({"message": error.message}))
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
