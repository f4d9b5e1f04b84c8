"""Runs as Airflow DAGs: one DAG a pipeline, one task a node. The only room that imports airflow."""
