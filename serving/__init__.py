"""The serving plane: model versions from the model store, answered over HTTP by BentoML."""
