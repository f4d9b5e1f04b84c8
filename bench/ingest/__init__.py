"""`make bench-ingest`: our ExampleGen and TFX's CsvExampleGen on one CSV file, and our peak memory at three sizes."""
