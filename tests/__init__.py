"""The tests: unit, integration and acceptance apart."""
