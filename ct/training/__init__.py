"""The training plane: TFX pipelines compiled to IR, and their nodes. The only room that imports tfx and tensorflow."""
